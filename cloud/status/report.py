"""The report on an environment, for people (`cloud.status.text`) and, as JSON, for machines."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import IntEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field


class ExitCode(IntEnum):
    """What the command's exit code means; 1 and 2 are left to errors of the command itself."""

    WELL = 0
    """All was read, and nothing is wrong."""
    WRONG = 3
    """Something is wrong, whether or not all was read."""
    INCOMPLETE = 4
    """Nothing that was read is wrong, but something could not be read."""


class Part(BaseModel):
    """A part of the report; what could not be read is `unknown`, never left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Section(Part):
    """What is known of one subject."""

    wrong: list[str] = []
    """What somebody should look into."""
    unknown: list[str] = []
    """What could not be told, and why."""


class Approval(Part):
    """Who approved a version; ``policy`` is nobody."""

    by: str
    at: datetime
    reason: str


class LiveVersion(Part):
    """A version on the endpoint."""

    variant: str
    version: str
    family: str | None
    share: float
    """Of the requests."""
    approval: Approval | None


class Live(Section):
    """What answers requests; no versions and nothing unknown means that nothing is live."""

    registered_model: str | None = None
    versions: list[LiveVersion] = []
    since: datetime | None = None
    how: Literal["deployed", "rolled-back"] | None = None
    by: str | None = None
    reason: str | None = None
    dag_run: str | None = None
    note: str | None = None
    """Why that is not said, where it need not be yet."""


class Rollout(Part):
    """A change of the endpoint that is under way."""

    version: str | None
    configuration: str
    stage: str | None
    """As SageMaker calls it, such as ``Baking``."""
    since: datetime | None
    bake_seconds: int | None
    """How long the alarms are watched."""


class RingingAlarm(Part):
    """An alarm of the endpoint in the state ALARM."""

    name: str
    since: datetime | None


class Endpoint(Section):
    """Health of the endpoint."""

    name: str | None = None
    status: str | None = None
    """As SageMaker says, or ``absent``; None where it could not be read."""
    configuration: str | None = None
    rollout: Rollout | None = None
    alarms: list[RingingAlarm] = []
    missing_rollback_alarms: list[str] = []


class CurrentTasks(Part):
    """Instances of a task that are in the same state."""

    task: str
    state: str
    count: int
    since: datetime | None
    """The first of them."""


class CurrentRun(Part):
    """A run that is queued or running."""

    dag: str
    run: str
    state: str
    since: datetime | None
    tasks: list[CurrentTasks]


class Activity(Section):
    """What runs."""

    runs: list[CurrentRun] = []
    paused: list[str] = []
    """DAGs that are paused."""


class Question(Part):
    """A question that waits for a person."""

    version: str | None
    dag: str
    run: str
    asked_at: datetime
    deadline: datetime | None
    who: list[str]
    """Empty: everyone whose role in Airflow allows it."""
    where: str
    in_mlflow_too: bool | None
    superseded_by: str | None
    """A newer run's version that is asked about too; this question lapses for it."""


class WaitingRun(Part):
    """A run that waits for something else than a person."""

    dag: str
    run: str
    waits_for: Literal["data", "turn"]
    since: datetime | None
    held_by: str | None
    """Whose turn it is."""


class Waiting(Section):
    """What waits, and for what."""

    questions: list[Question] = []
    runs: list[WaitingRun] = []


class Worst(Part):
    """The feature, or the prediction, that moved most relative to its limit."""

    version: str
    name: str
    psi: float
    limit: float


class Quality(Part):
    """A live version's metric on answers whose labels have landed, and the evaluation's."""

    version: str
    metric: str
    value: float
    evaluated: float | None


class Monitoring(Section):
    """The last verdict."""

    schedule: str | None = None
    at: datetime | None = None
    """When the last verdict was given; None where there is none."""
    outcome: str | None = None
    reasons: list[str] = []
    worst: Worst | None = None
    quality: list[Quality] = []
    report: str | None = None
    next_at: datetime | None = None
    overdue: bool | None = None
    """None where it could not be told."""


class DatasetStatus(Part):
    """A dataset that has DAGs in the environment."""

    dataset: str
    live: Live
    endpoint: Endpoint
    activity: Activity
    waiting: Waiting
    monitoring: Monitoring

    def sections(self) -> list[Section]:
        """Return the parts in which something can be wrong or unknown."""
        return [self.live, self.endpoint, self.activity, self.waiting, self.monitoring]


class Report(Part):
    """The whole environment."""

    environment: str
    at: datetime
    datasets: list[DatasetStatus]
    disabled: list[str]
    """Datasets that have no DAGs in the environment."""
    refused: dict[str, str]
    """Datasets whose file is refused, and why: whether they are enabled is unknown."""

    def _told(self, what: Literal["wrong", "unknown"]) -> Iterator[str]:
        for dataset in self.datasets:
            found = [told for section in dataset.sections() for told in getattr(section, what)]
            yield from dict.fromkeys(f"{dataset.dataset}: {told}" for told in found)

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @property
    def wrong(self) -> list[str]:
        """Everything that somebody should look into."""
        return list(self._told("wrong"))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def unknown(self) -> list[str]:
        """Everything that could not be told."""
        return [*(f"{name}: {why}" for name, why in self.refused.items()), *self._told("unknown")]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        if self.wrong:
            return ExitCode.WRONG
        return ExitCode.INCOMPLETE if self.unknown else ExitCode.WELL
