"""The errors that this service answers with, named as AWS names them."""

from __future__ import annotations

from typing import Any


class AwsError(Exception):
    """An error answer: AWS error code, message, HTTP status and extra members of the error shape."""

    def __init__(self, code: str, message: str, status: int = 400, **members: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.members = members


class ValidationException(AwsError):
    """The control plane's answer to a request it cannot carry out."""

    def __init__(self, message: str) -> None:
        super().__init__("ValidationException", message)


class DeploymentError(Exception):
    """A fleet did not come up; the message becomes the endpoint's FailureReason."""
