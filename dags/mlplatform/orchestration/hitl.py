"""Asking a person.

Airflow's own ApprovalOperator and its own trigger do the asking; nothing of ours runs in the triggerer. The wait is
cut into slices: at the end of each the task wakes up for a moment, looks into the registry whether the question was
answered in MLflow, or another candidate has taken the place of this one, and waits on. An answer in
Airflow ends a slice at once, and one that comes between two slices is found by the next: it is kept in Airflow's
database.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.triggers.hitl import HITLTrigger
from airflow.sdk import Context, Param

from mlplatform.config.environment import Settings
from mlplatform.documents.decisions import Answer
from mlplatform.orchestration import notifications
from mlplatform.promotion import approval
from mlplatform.training import approvals

# Beside the answer; Airflow adds the DAG's own parameters to a task's, and shows only those of source "task".
FORM = {"reason": Param("", type="string", source="task", title="Reason", description="Kept in the audit log.")}


class ApproveInAirflowOrMlflow(ApprovalOperator):
    """Asks whether a run's candidate may be deployed.

    Returns a `mlplatform.documents.decisions.Answer` as a dictionary.

    No answer fails the task: a rejection, and a deadline that passed, are answers.

    Args:
        settings: of the environment: deadline, who may answer, whether MLflow counts.
        prefix: of the training run; a template.
    """

    template_fields = (*ApprovalOperator.template_fields, "prefix")

    def __init__(self, *, settings: Settings, prefix: str, **kwargs: Any) -> None:
        super().__init__(
            assigned_users=[{"id": one.id, "name": one.name} for one in settings.approval.approvers] or None,
            response_timeout=timedelta(hours=settings.approval.deadline_hours),
            **kwargs,
        )
        self._settings = settings
        self.prefix = prefix

    def execute(self, context: Context) -> Any:
        """Put the question, and tell people that it is there."""
        ti = context["ti"]
        try:
            link = self.generate_link_to_ui(task_instance=ti)
        except ValueError:  # Airflow does not know its own address
            link = ti.log_url
        notifications.send(self._settings, approvals.approval_wanted(self._settings, self.prefix, link))
        return super().execute(context)

    def defer(self, *, trigger: Any, method_name: str, **kwargs: Any) -> NoReturn:
        """Wait for a person, but not longer than until the registry is to be looked at."""
        deadline: datetime = trigger.timeout_datetime
        slice_end = datetime.now(UTC) + timedelta(seconds=self._settings.approval.poll_seconds)
        trigger.timeout_datetime = min(deadline, slice_end)
        super().defer(trigger=trigger, method_name=method_name, kwargs={"deadline": deadline.isoformat()})
        raise AssertionError("deferring ends the task's process")

    def execute_complete(self, context: Context, event: dict[str, Any], deadline: str) -> dict[str, Any]:
        """Return the answer, or wait on."""
        if event.get("error_type") == "timeout":
            answer = self._no_answer_here(context, datetime.fromisoformat(deadline))
        else:
            # Not ApprovalOperator's: it would skip what comes after a rejection, which has its own way here.
            said = super(ApprovalOperator, self).execute_complete(context, event)
            person = said["responded_by_user"] or {}
            answer = Answer(
                outcome="approved" if said["chosen_options"] == [self.APPROVE] else "rejected",
                by=person.get("name") or person.get("id") or "somebody in Airflow",
                reason=(said["params_input"] or {}).get("reason") or "no reason given",
                at=said["responded_at"],
                source="airflow",
            )
        self.log.info("%s by %s: %s", answer.outcome, answer.by, answer.reason)
        return answer.model_dump(mode="json")

    def _no_answer_here(self, context: Context, deadline: datetime) -> Answer:
        """Return what the registry says of the question, or that there is no answer in time, or wait on."""
        now = datetime.now(UTC)
        try:
            if (found := self._found_in_the_registry(now)) is not None:
                return found
        except Exception as error:  # the answer in Airflow is not lost for it
            self.log.warning("MLflow could not be asked what became of the question: %s", error)
        if now < deadline:
            self.defer(
                trigger=HITLTrigger(
                    ti_id=context["ti"].id,
                    options=self.options,
                    defaults=self.defaults,
                    params=self.serialized_params,
                    multiple=self.multiple,
                    timeout_datetime=deadline,
                ),
                method_name="execute_complete",
            )
        reason = f"nobody answered within {self._settings.approval.deadline_hours:g} h"
        return Answer(outcome="expired", by=approval.DEADLINE, reason=reason, at=now, source="deadline")

    def _found_in_the_registry(self, now: datetime) -> Answer | None:
        question = approvals.question(self._settings, self.prefix)
        if self._settings.approval.from_mlflow:
            found = approval.look_in_tags(self._settings, question)
            if found is not None:
                return found
        standing = approval.standing(self._settings, question.registered_model, question.version)
        return approval.superseded(question, standing, now)
