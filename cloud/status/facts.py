"""What was read of an environment, each part of it or the reason why it was not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mlplatform.config.environment import Settings
from mlplatform.documents.decisions import AuditEntry
from mlplatform.documents.monitoring import MonitorResult


@dataclass(frozen=True)
class Unread:
    """Something that could not be read, and why: neither absent nor well."""

    reason: str


type Read[T] = T | Unread


@dataclass(frozen=True)
class Variant:
    """A variant of an endpoint; without a version it is what Terraform made, not a model."""

    name: str
    version: str | None
    weight: float


@dataclass(frozen=True)
class Update:
    """A change of an endpoint that is under way."""

    config_name: str
    version: str | None
    stage: str | None
    since: datetime | None


@dataclass(frozen=True)
class Endpoint:
    """An endpoint as SageMaker describes it."""

    status: str
    config_name: str
    variants: Sequence[Variant]
    failure: str | None = None
    update: Update | None = None


@dataclass(frozen=True)
class Alarm:
    """An alarm of CloudWatch."""

    name: str
    state: str
    since: datetime | None
    endpoint: str | None
    """That it looks at, where it says so."""


@dataclass(frozen=True)
class Dag:
    """A DAG in Airflow."""

    paused: bool
    next_run: datetime | None
    """When its next scheduled run is due."""


@dataclass(frozen=True)
class Run:
    """A DAG run."""

    dag: str
    run: str
    state: str
    since: datetime | None


@dataclass(frozen=True)
class Task:
    """A task instance that has begun and not ended, or is about to begin."""

    dag: str
    run: str
    task: str
    state: str
    since: datetime | None


@dataclass(frozen=True)
class OpenQuestion:
    """A question of `approval.ask` without an answer."""

    dag: str
    run: str
    task: str
    version: Read[str]
    asked_at: datetime
    who: Sequence[str]
    """Who alone may answer; nobody named means everyone whose role in Airflow allows it."""


@dataclass(frozen=True)
class AirflowFacts:
    """What Airflow says, of all datasets."""

    url: str
    dags: Read[Mapping[str, Dag]]
    runs: Read[Sequence[Run]]
    """Queued and running."""
    tasks: Read[Sequence[Task]]
    questions: Read[Sequence[OpenQuestion]]
    failed_monitoring: Read[Sequence[Run]]
    """Runs of monitoring that failed lately."""
    pools: Read[Mapping[str, int]]
    """How many slots each has."""


@dataclass(frozen=True)
class DatasetFacts:
    """What was read of one dataset; the rest says nothing where `enabled` is not True."""

    name: str
    enabled: Read[bool]
    settings: Read[Settings] = Unread("not read")
    endpoint_name: str | None = None
    endpoint: Read[Endpoint | None] = Unread("not read")
    put_live: Read[AuditEntry | None] = Unread("not read")
    """The audit log's last entry about a deployment or a step back that succeeded."""
    approvals: Mapping[str, Read[AuditEntry | None]] = field(default_factory=dict)
    """The audit log's last approval of each live version."""
    families: Mapping[str, Read[str]] = field(default_factory=dict)
    """By version."""
    verdict: Read[MonitorResult | None] = Unread("not read")
    turn: Read[str | None] = Unread("not read")
    """The run at work, as ``<DAG>/<run>``."""


@dataclass(frozen=True)
class Facts:
    """Everything that was read of an environment."""

    environment: str
    at: datetime
    airflow: AirflowFacts
    alarms: Read[Sequence[Alarm]]
    datasets: Sequence[DatasetFacts]
