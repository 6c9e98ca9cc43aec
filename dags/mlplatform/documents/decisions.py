"""What was decided about a model version: by the gate, by people, and the audit log's entries."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from mlplatform.config.base import Strict
from mlplatform.config.policy import Policy
from mlplatform.documents.base import Document


class ApprovedModel(Strict):
    """What the approval's asset event carries, and what a deployment is about."""

    dataset: str
    registered_model: str
    version: str
    run_id: str
    model_digest: str
    evaluation_digest: str
    prefix: str
    """S3 prefix of the training run's documents."""
    approved_by: str
    reason: str


class Question(Strict):
    """What an answer is about."""

    dataset: str
    registered_model: str
    version: str
    run_id: str
    model_digest: str
    evaluation_digest: str
    champion_version: str | None
    """That the version was compared with."""
    prefix: str


class Answer(Strict):
    """Who said what, where and when."""

    outcome: Literal["approved", "rejected", "expired", "superseded"]
    by: str
    reason: str
    at: datetime
    source: Literal["policy", "airflow", "mlflow", "deadline", "newer-candidate"]


class RecordedAnswer(Document):
    """The first answer to a question, which is the one that holds."""

    question: Question
    answer: Answer

    def approved_model(self) -> ApprovedModel:
        """Return what a deployment needs to know."""
        facts = self.question.model_dump(exclude={"champion_version"})
        return ApprovedModel(**facts, approved_by=self.answer.by, reason=self.answer.reason)


AuditKind = Literal["approved", "rejected", "expired", "superseded", "deployed", "rolled-back", "deployment-failed"]


class AuditEntry(Document):
    """One line of the log."""

    kind: AuditKind
    at: datetime
    """When it happened, UTC."""
    dataset: str
    registered_model: str
    model_version: str
    model_digest: str
    evaluation_digest: str
    """Of the evaluation that was decided on."""
    by: str
    """A person, ``policy``, ``deadline``, or the ``version <number>`` that took its place."""
    reason: str
    dag_run: str
    """``<DAG>/<run>`` that wrote it."""
    details: dict[str, str] = Field(default={})


class GuardResult(Strict):
    """What one guard found; a row of the table that people are shown."""

    name: str
    value: float | None
    """None where there is no such number; the guard has not passed then, or says in its sentence why it has."""
    limit: float | None
    """None where nothing is compared."""
    passed: bool
    sentence: str


class Decision(Document):
    """``decision.json``: the outcome, in reasons a person can read, and the numbers behind it."""

    schema_version: int = 2
    oldest_readable = 2
    outcome: Literal["promote", "reject", "needs-approval"]
    reasons: list[str]
    """All that speaks against the candidate; without any, what speaks for it."""
    guards: list[GuardResult]
    metric: str
    candidate_version: str
    candidate_value: float | None
    champion_version: str | None
    champion_value: float | None
    improvement: float | None
    """How much better the candidate is, in the metric's unit; negative when it is worse."""
    policy: Policy
    evaluation_digest: str
    """Of the evaluation that was judged, so that a decision cannot be carried over to another one."""
