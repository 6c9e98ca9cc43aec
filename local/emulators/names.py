"""Names that the front and its clients share."""

HOST = "aws.test"
"""The endpoint's name. The TLD is reserved for tests (RFC 6761), so it is nobody's."""
PREFIX = "/_emulator/"
"""Paths of the front's own."""
ACCOUNT = "123456789012"
REGION = "us-east-1"
