"""The tasks of the group ``approval``, and the end of a run: who is asked, what holds, what people are told."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from mlplatform import storage
from mlplatform.config.environment import Settings
from mlplatform.documents.decisions import Answer, Decision, Question, RecordedAnswer
from mlplatform.documents.evaluation import EvaluateResult
from mlplatform.documents.paths import RunPaths, paths_of_run
from mlplatform.documents.results import Selection
from mlplatform.documents.run import Candidate, RunConfig
from mlplatform.errors import NonRetryableError
from mlplatform.ingest import claims
from mlplatform.people import messages, report_links
from mlplatform.people.messages import Message
from mlplatform.promotion import approval, registry
from mlplatform.steps import RESULT

log = logging.getLogger(__name__)
_OUTCOMES = {"approved": "promoted", "superseded": "superseded"}


def question(settings: Settings, prefix: str) -> Question:
    """Return what an approval of a run's candidate is about."""
    paths = paths_of_run(prefix)
    config = storage.read_document(paths.step("evaluate", "config.json"), RunConfig)
    decision = storage.read_document(paths.decision, Decision)
    candidate = cast("Candidate", config.candidate)
    return Question(
        dataset=config.model.name,
        registered_model=config.model.registered_model,
        version=candidate.version,
        run_id=candidate.run_id,
        model_digest=candidate.model_digest,
        evaluation_digest=decision.evaluation_digest,
        champion_version=decision.champion_version,
        prefix=prefix,
    )


def ask(settings: Settings, prefix: str) -> dict[str, str]:
    """Return ``subject`` and ``body`` of the question that a person is asked, in Markdown."""
    paths, asked = paths_of_run(prefix), question(settings, prefix)
    evaluation = storage.read_document(paths.step("evaluate", RESULT), EvaluateResult)
    decision = storage.read_document(paths.decision, Decision)
    report, page = report_links.page(evaluation.report_uri), _page(settings, asked)
    champion = f"instead of version {asked.champion_version}" if asked.champion_version else "as the first model"
    return {
        "subject": f"Deploy version {asked.version} of {asked.dataset} {champion}?",
        "body": approval.body(asked, decision, evaluation, report, page),
    }


def approval_wanted(settings: Settings, prefix: str, link: str) -> Message:
    """Return what people are told when a candidate waits for one of them."""
    asked = question(settings, prefix)
    decision = storage.read_document(paths_of_run(prefix).decision, Decision)
    links = [f"Answer: {link}", *_links(settings, prefix, asked)]
    hours = settings.approval.deadline_hours
    return messages.approval_wanted(asked.dataset, asked.version, decision.reasons, hours, links)


def approve_automatically(settings: Settings, prefix: str) -> Answer:
    """Return the policy's answer, which asks nobody.

    Raises:
        NonRetryableError: the gate did not leave it to the policy.
    """
    decision = storage.read_document(paths_of_run(prefix).decision, Decision)
    if decision.outcome != "promote":
        raise NonRetryableError(f"the gate's outcome is {decision.outcome}: only promote needs no person")
    return approval.by_policy(decision)


def record_approval(settings: Settings, prefix: str, answer: Mapping[str, Any], dag_run: str) -> RecordedAnswer:
    """Verify an answer and make it the one that holds; see `mlplatform.promotion.approval.record`.

    Raises:
        NonRetryableError: the gate rejected the candidate, or the approval does not hold any more.
    """
    decision = storage.read_document(paths_of_run(prefix).decision, Decision)
    if decision.outcome == "reject":
        raise NonRetryableError(f"the gate rejected version {decision.candidate_version}: nobody can approve it")
    given = Answer.model_validate(answer, extra="ignore")
    return approval.record(settings, question(settings, prefix), given, dag_run)


def conclude(
    settings: Settings, prefix: str, owner: str, nothing_to_do: str | None, answer: Mapping[str, Any] | None
) -> Message:
    """Close a run's record and return what people shall be told.

    Args:
        settings: of the environment.
        prefix: of the run.
        owner: ``<DAG>/<run>``.
        nothing_to_do: why there was nothing to do, None if there was.
        answer: that holds for the candidate; None if the gate rejected it.
    """
    paths = paths_of_run(prefix)
    dataset = prefix.rsplit("/", 2)[-2]
    if nothing_to_do is not None:
        return messages.nothing_to_do(dataset, nothing_to_do)
    decision = storage.read_document(paths.decision, Decision)
    asked = question(settings, prefix)
    links = _links(settings, prefix, asked)
    summary = storage.read_document(paths.selection, Selection).summary
    said = Answer.model_validate(answer, extra="ignore") if answer is not None else None
    reasons = decision.reasons
    if said is None and decision.outcome != "reject":
        raise NonRetryableError(
            f"the gate's outcome is {decision.outcome}, but nobody has answered; clear the tasks in approval"
        )
    if said is not None and said.outcome == "approved":
        message = messages.approved(dataset, asked.version, said.by, said.reason, [*reasons, summary], links)
    elif said is not None and said.outcome in ("expired", "superseded"):
        reasons = [said.reason]
        tell = messages.expired if said.outcome == "expired" else messages.superseded
        message = tell(dataset, asked.version, said.reason, links)
    else:
        reasons = [f"{said.by} said no: {said.reason}"] if said is not None else reasons
        message = messages.rejected(dataset, asked.version, [*reasons, summary], links)
    closed = claims.finish(
        paths,
        owner,
        state="finished",
        outcome=_OUTCOMES.get(message.event, "rejected"),
        model_version=asked.version,
        reasons=reasons,
        failed_task=None,
    )
    if closed is None:
        log.warning("%s belongs to another DAG run by now; it is left as it is", paths.record)
    return message


def _page(settings: Settings, asked: Question) -> str:
    return registry.page(settings.mlflow.tracking_uri, asked.registered_model, asked.version)


def _links(settings: Settings, prefix: str, asked: Question) -> list[str]:
    """Return where people read more."""
    evaluation = storage.read_document(RunPaths(prefix).step("evaluate", RESULT), EvaluateResult)
    return [_page(settings, asked), f"Report: {report_links.page(evaluation.report_uri)}"]
