"""What went wrong, told in one message."""


class CloudError(Exception):
    """Something a person can mend; the message says what, where and what to do."""
