"""What can go wrong, as callers have to tell it apart. Imports nothing of the platform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

FailureKind = Literal["bad-input", "bad-config", "rolled-back"]


class ConfigError(ValueError):
    """A configuration file is wrong; the message names the file, the key and what is allowed."""


class NonRetryableError(Exception):
    """It cannot succeed with what was given; trying again would not help.

    Args:
        message: what is wrong, where, and what to do.
        kind: of failure, as ``error.json`` has it.
        subjects: addresses of the files at fault, for quarantine.
    """

    def __init__(self, message: str, *, kind: FailureKind = "bad-input", subjects: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.subjects = list(subjects)


class UnavailableError(Exception):
    """Something that is needed does not answer or is full; trying again may help. The message says all there is."""


class LockBusyError(UnavailableError):
    """Another deployment is at work and did not end in time."""


class LockLostError(UnavailableError):
    """Another deployment has taken over; this one must not change anything any more."""


class StorageError(RuntimeError):
    """An object is missing or does not have the promised content; the message names it."""


class NewerReleaseError(StorageError):
    """An object was written by a newer release, in a form that this one does not know."""
