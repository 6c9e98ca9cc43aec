"""Time that passes faster than the wall's, for waits that take minutes in the cloud."""

from __future__ import annotations

import time


class Clock:
    """Counts seconds as the service would; `scale` of them pass in one second here."""

    def __init__(self, scale: float = 1.0) -> None:
        if scale <= 0:
            raise ValueError(f"the time scale must be greater than 0, not {scale:g}")
        self.scale = scale

    def now(self) -> float:
        """Return seconds of service time since some fixed moment."""
        return time.monotonic() * self.scale

    def real(self, seconds: float) -> float:
        """Return how many seconds of wall time that much service time takes."""
        return seconds / self.scale
