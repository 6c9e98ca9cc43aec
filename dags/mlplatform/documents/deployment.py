"""One deployment or step back: what was asked for, the lock, and what the step `deploy` reports."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from mlplatform.config.base import Strict
from mlplatform.documents.base import Document
from mlplatform.documents.decisions import ApprovedModel
from mlplatform.documents.results import StepResult


class LockRecord(Document):
    """``lock.json``."""

    owner: str
    """The deployment: the prefix of its documents. A second attempt at it is the same owner."""
    token: str
    """Another one for each process."""
    taken_at: datetime
    renewed_at: datetime
    released: bool = False


class Challenger(Strict):
    """The second version of an A/B test."""

    model: ApprovedModel
    weight: float
    """Share of the requests that it answers."""


class DeploymentRequest(Document):
    """``request.json``: what is to be done, who wants it and why."""

    purpose: Literal["deploy", "rollback"]
    model: ApprovedModel
    by: str
    reason: str
    dag_run: str
    """``<DAG>/<run>``."""
    champion: str | None
    """Champion when it was asked for."""
    on_approval: bool = False
    """Whether the approval itself started it, and not a person later."""
    forced: bool = False
    """Whether it is to be done without approval."""
    challenger: Challenger | None = None


class LiveVariant(Strict):
    """A model version on an endpoint, and the share of the requests that it answers."""

    model_version: str
    share: float
    smoke_rows: int
    smoke_max_difference: float | None
    """Largest difference between a prediction and the expected one; None where none were expected."""


class DeployResult(StepResult):
    """What is live now, and what was before."""

    step: Literal["deploy"] = "deploy"
    purpose: Literal["deploy", "rollback"] = "deploy"
    endpoint_name: str
    endpoint_config_name: str
    previous_endpoint_config_name: str | None = None
    """None where there was no endpoint, or where it ran this configuration already."""
    model_version: str
    previous_version: str | None
    """Champion before; None where there was none, or where it was this version."""
    strategy: str = "all-at-once"
    """How requests moved: ``all-at-once``, ``canary``, ``linear``, ``create``, ``weights`` or ``none``."""
    strategy_reason: str = ""
    """Why, where that is not what the configuration asks for."""
    seconds: float = 0.0
    """From the first change of the endpoint until it was verified; 0 where nothing was changed."""
    alarms: list[str] = Field(default=[])
    """Those that would have rolled it back."""
    checks: list[str] = Field(default=[])
    """What was looked at afterwards, and found to be right."""
    variants: dict[str, LiveVariant] = Field(default={})
    """By name: ``primary``, and in an experiment ``challenger``."""
    smoke_rows: int
    smoke_max_difference: float
