"""Somebody who asks an endpoint all the time: what they are answered while it changes."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from local.pipeline import driver
from local.pipeline.attached import AttachedPlatform

PAUSE_SECONDS = 0.02


class Load:
    """Asks for a prediction again and again, in a thread of its own, until the end of the block.

    Attributes:
        answered: predictions, by the version that made them.
        errors: requests that failed, by the error's code.
    """

    def __init__(self, platform: AttachedPlatform, endpoint: str, features: dict[str, Any]) -> None:
        self.answered: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._platform = platform
        self._endpoint = endpoint
        self._features = features
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="load", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(timeout=30)

    @property
    def total(self) -> int:
        """Number of requests so far."""
        return self.answered.total() + self.errors.total()

    def summary(self) -> str:
        """Return what became of the requests, in a sentence."""
        failed = f" ({', '.join(sorted(self.errors))})" if self.errors else ""
        answered = ", ".join(f"version {one} answered {count}" for one, count in sorted(self.answered.items()))
        return f"{self.errors.total()} of {self.total} requests failed{failed}; {answered or 'none was answered'}."

    def _ask(self) -> None:
        while not self._ended.wait(PAUSE_SECONDS):
            try:
                reply = driver.invoke(self._platform, self._endpoint, [self._features])
                self.answered[str(reply["model"]["version"])] += 1
            except ClientError as error:
                self.errors[str(error.response["Error"]["Code"])] += 1
            except BotoCoreError as error:
                self.errors[type(error).__name__] += 1
