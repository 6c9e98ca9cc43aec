"""Why a request cannot be answered."""

from __future__ import annotations


class RequestError(Exception):
    """A request that cannot be answered: HTTP status, a stable code and a message for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def bad(message: str) -> RequestError:
    """Return the error for input that is not what the model takes."""
    return RequestError(400, "bad-input", message)
