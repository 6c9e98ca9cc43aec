"""May a model version be deployed? Who said so, and does what they said still hold?

An answer binds to one version, the digest of its evaluation and the champion it was compared with. The first answer
that is recorded wins: it is one S3 object, written only if there is none (`record`). Everything else (tags on the
version, the audit log) follows from that object and can be written again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlplatform import storage
from mlplatform.config.environment import Approver, Settings
from mlplatform.documents.decisions import Answer, AuditEntry, Decision, Question, RecordedAnswer
from mlplatform.documents.digests import digest
from mlplatform.documents.evaluation import EvaluateResult
from mlplatform.errors import NonRetryableError
from mlplatform.promotion import audit, registry

log = logging.getLogger(__name__)
POLICY = "policy"
DEADLINE = "deadline"
INVALID_ANSWER_TAG = "approval_refused"


@dataclass(frozen=True)
class Standing:
    """What the registry says of a version at this moment."""

    challenger: str | None
    champion: str | None
    tags: Mapping[str, str]


def objections(question: Question, standing: Standing) -> list[str]:
    """Return why an approval does not hold any more; empty if it does."""
    name, version = question.registered_model, question.version
    found = []
    if standing.challenger != version:
        found.append(f"the challenger of {name} is now {_named(standing.challenger)}, not version {version}")
    if standing.tags.get("evaluation_digest") != question.evaluation_digest:
        found.append(f"version {version} of {name} was evaluated again since the question was put")
    if standing.tags.get("model_digest", question.model_digest) != question.model_digest:
        found.append(f"the files of version {version} of {name} are not those that were evaluated")
    if standing.champion not in (question.champion_version, version):
        found.append(
            f"the champion of {name} is now {_named(standing.champion)}, but the evaluation compared with "
            f"{_named(question.champion_version)}"
        )
    return found


def superseded(question: Question, standing: Standing, at: datetime) -> Answer | None:
    """Return that no answer is needed any more if another candidate has passed the gate since, else None."""
    newer = standing.challenger
    if newer in (None, question.version):
        return None
    reason = f"version {newer} passed the gate since, and takes its place"
    return Answer(outcome="superseded", by=f"version {newer}", reason=reason, at=at, source="newer-candidate")


def may_answer(by: str, approvers: Sequence[Approver]) -> bool:
    """Tell whether a person is among those who may; if nobody is named, the sign-in alone decides."""
    return not approvers or any(by in (approver.id, approver.name) for approver in approvers)


def answer_in_tags(
    question: Question, tags: Mapping[str, str], approvers: Sequence[Approver], now: datetime
) -> Answer | str | None:
    """Read an answer from the tags of a version.

    Returns:
        The answer; why there is one that does not count; or None if there is none.
    """
    said = tags.get("approval")
    if said not in ("approved", "rejected"):
        return f"approval={said}: only approved and rejected are answers" if said else None
    by, about = tags.get("approved_by", ""), tags.get("approval_evaluation_digest")
    if said == "approved":
        if about != question.evaluation_digest:
            return (
                f"approval_evaluation_digest is {about or 'missing'}, but the evaluation's is "
                f"{question.evaluation_digest}: an approval names the evaluation that it relies on"
            )
        if not by:
            return "approved_by is missing: an approval says whose it is"
        if not may_answer(by, approvers):
            return f"approved_by={by}: not one of {', '.join(approver.name for approver in approvers)}"
    elif about not in (None, question.evaluation_digest):
        return None  # an earlier evaluation was rejected
    return Answer(
        outcome="approved" if said == "approved" else "rejected",
        by=by or "somebody in MLflow",
        reason=tags.get("approval_reason", "no reason given"),
        at=now,
        source="mlflow",
    )


def prevailing(answer: Answer, in_tags: Answer | str | None) -> Answer:
    """Return which of two answers counts as long as none is recorded.

    A rejection beats an approval; among equals it is the one that was found first, in the tags.
    """
    if not isinstance(in_tags, Answer) or answer.outcome == "rejected":
        return answer
    if in_tags.outcome == "rejected" or answer.source != "policy":
        return in_tags
    return answer


def body(question: Question, decision: Decision, evaluation: EvaluateResult, report: str, page: str) -> str:
    """Return what a person reads before answering, in Markdown."""
    improvement = evaluation.improvement
    interval = improvement.interval if improvement else None
    rows = [
        ("", "candidate", "champion"),
        ("---", "---", "---"),
        ("version", question.version, question.champion_version or "none yet"),
        (decision.metric, _number(decision.candidate_value), _number(decision.champion_value)),
    ]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.append("")
    if improvement is not None:
        sure = f", {interval.level:.0%} interval {interval.low:+.4f} to {interval.high:+.4f}" if interval else ""
        value = "unknown" if improvement.value is None else f"{improvement.value:+.4f}"
        lines += [f"Improvement in {improvement.metric}: {value}{sure}, on {evaluation.rows} held-out rows.", ""]
    lines += ["What the gate says:", "", *(f"- {reason}" for reason in decision.reasons), ""]
    lines += ["| guard | passed | |", "| --- | --- | --- |"]
    lines += [f"| {one.name} | {'yes' if one.passed else 'no'} | {_cell(one.sentence)} |" for one in decision.guards]
    lines.append("")
    lines += [f"[Evaluation report]({report}) · [model version]({page})", ""]
    lines.append(f"The answer binds to evaluation `{question.evaluation_digest}`.")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _named(version: str | None) -> str:
    return f"version {version}" if version else "none"


def standing(settings: Settings, name: str, version: str) -> Standing:
    """Ask the registry."""
    uri = settings.mlflow.tracking_uri
    return Standing(
        challenger=registry.version_with_alias(uri, name, registry.CHALLENGER),
        champion=registry.version_with_alias(uri, name, registry.CHAMPION),
        tags=registry.get_version(uri, name, version).tags,
    )


def look_in_tags(settings: Settings, question: Question) -> Answer | None:
    """Return an answer that was given in MLflow; one that does not count is told there, in `INVALID_ANSWER_TAG`."""
    uri, name = settings.mlflow.tracking_uri, question.registered_model
    tags = registry.get_version(uri, name, question.version).tags
    found = answer_in_tags(question, tags, settings.approval.approvers, datetime.now(UTC))
    if isinstance(found, str):
        log.warning("the tags of version %s of %s are no answer: %s", question.version, name, found)
        if tags.get(INVALID_ANSWER_TAG) != found:
            registry.tag_version(uri, name, question.version, {INVALID_ANSWER_TAG: found})
        return None
    return found


def by_policy(decision: Decision) -> Answer:
    """Return the answer where the policy asks nobody."""
    reason = "; ".join(decision.reasons)
    return Answer(outcome="approved", by=POLICY, reason=reason, at=datetime.now(UTC), source="policy")


def recorded(question: Question) -> RecordedAnswer | None:
    """Return the answer that holds, None as long as there is none."""
    return storage.try_read_document(_address(question), RecordedAnswer)


def record(settings: Settings, question: Question, answer: Answer, dag_run: str) -> RecordedAnswer:
    """Make an answer the one that holds, unless another one came before; doing it again changes nothing.

    Args:
        settings: of the environment.
        question: that was asked.
        answer: to it. An expired one is only kept in the audit log: the question may be put again. An approval of a
            candidate whose place another one has taken is none: it is superseded, which is kept there too.
        dag_run: ``<DAG>/<run>`` that asked.

    Returns:
        The answer that holds: perhaps another one, of somebody who was first.

    Raises:
        NonRetryableError: it is an approval that does not hold any more.
    """
    now = standing(settings, question.registered_model, question.version)
    first, given_at = recorded(question), answer.at
    if first is None and settings.approval.from_mlflow:
        in_tags = answer_in_tags(question, now.tags, settings.approval.approvers, datetime.now(UTC))
        answer = _log_if_overruled(answer, prevailing(answer, in_tags))
    held = answer if first is None else first.answer
    if held.outcome == "approved" and (newer := superseded(question, now, given_at)) is not None:
        log.warning("%s by %s (%s) comes too late: %s", held.outcome, held.by, held.source, newer.reason)
        held, first = newer, None
    if held.outcome in ("expired", "superseded"):
        if not _is_audited(settings, question, held):
            audit.append(settings, _entry(question, held, dag_run))
        return RecordedAnswer(question=question, answer=held)
    if held.outcome == "approved":
        _refuse_outdated(question, now)
    if first is None:
        first = RecordedAnswer(question=question, answer=held)
        if storage.create_document(_address(question), first) is None:
            first = storage.read_document(_address(question), RecordedAnswer)  # somebody was faster
    held = _log_if_overruled(answer, first.answer)
    registry.tag_version(
        settings.mlflow.tracking_uri,
        question.registered_model,
        question.version,
        {
            "approval": held.outcome,
            "approved_by": held.by,
            "approved_at": held.at.astimezone(UTC).isoformat(),
            "approval_reason": held.reason,
            "approval_evaluation_digest": question.evaluation_digest,
        },
    )
    audit.append(settings, _entry(question, held, dag_run))
    return first


def _is_audited(settings: Settings, question: Question, answer: Answer) -> bool:
    """Tell whether a moment's answer is in the audit log: tried again, it may name a candidate that is newer still."""
    written = audit.entries(settings, question.dataset, answer.outcome, question.version)
    return any((entry.at, entry.evaluation_digest) == (answer.at, question.evaluation_digest) for entry in written)


def _refuse_outdated(question: Question, now: Standing) -> None:
    if found := objections(question, now):
        raise NonRetryableError(
            f"the approval of version {question.version} does not hold: {'; '.join(found)}. "
            "Clear the task promotion.register and all after it to evaluate and ask again"
        )


def _log_if_overruled(answer: Answer, holds: Answer) -> Answer:
    """Tell the second one that somebody was first."""
    if (answer.by, answer.outcome) != (holds.by, holds.outcome):
        log.warning(
            "%s by %s (%s) does not count: it was %s by %s (%s)",
            *(answer.outcome, answer.by, answer.source, holds.outcome, holds.by, holds.source),
        )
    return holds


def _address(question: Question) -> str:
    key = digest(question.version, question.evaluation_digest)
    return storage.join(question.prefix, "approval", f"{key}.json")


def _entry(question: Question, answer: Answer, dag_run: str) -> AuditEntry:
    details: dict[str, Any] = {"source": answer.source, "run_prefix": question.prefix}
    return AuditEntry(
        kind=answer.outcome,
        at=answer.at,
        dataset=question.dataset,
        registered_model=question.registered_model,
        model_version=question.version,
        model_digest=question.model_digest,
        evaluation_digest=question.evaluation_digest,
        by=answer.by,
        reason=answer.reason,
        dag_run=dag_run,
        details={**details, "champion_version": question.champion_version or ""},
    )
