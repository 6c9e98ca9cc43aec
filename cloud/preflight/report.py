"""What the account has and what is needed, for people (`cloud.preflight.text`) and, as JSON, for machines."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

from cloud.status.report import ExitCode

Verdict = Literal["enough", "too small", "unknown"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Line(_Part):
    """One thing that is needed."""

    what: str
    verdict: Verdict
    have: float | None = None
    """What the quota leaves for more; None where it could not be told."""
    need: float | None = None
    """What the environment needs besides what it has already."""
    limit: float | None = None
    in_use: float | None = None
    """In the whole account; None where AWS does not tell."""
    quota: str | None = None
    """Service and code, as Service Quotas writes them."""
    note: str = ""
    ask: list[str] = []
    """Commands that ask for more, or what else to do."""


class Report(_Part):
    """All that was asked."""

    environment: str
    account: str
    region: str
    lines: list[Line]

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def too_small(self) -> list[str]:
        """Of what there is too little."""
        return [line.what for line in self.lines if line.verdict == "too small"]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def unknown(self) -> list[str]:
        """What could not be told."""
        return [line.what for line in self.lines if line.verdict == "unknown"]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def exit_code(self) -> int:
        """What the command ends with, as `make status` does."""
        if self.too_small:
            return ExitCode.WRONG
        return ExitCode.INCOMPLETE if self.unknown else ExitCode.WELL
