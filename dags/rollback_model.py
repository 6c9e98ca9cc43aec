"""Go back to the model that was live before. Wiring only; the work is in ``mlplatform``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from mlplatform.config.loading import load_settings, model_names
from mlplatform.deployment import requests
from mlplatform.orchestration import callbacks
from mlplatform.orchestration.defaults import default_args
from mlplatform.orchestration.groups import deployment_group
from mlplatform.orchestration.retries import fail_without_retry

SETTINGS = load_settings()
ORCHESTRATION = SETTINGS.orchestration

DOC = """
### Roll back a model

Puts the version of the alias `previous` back on the endpoint, in one step: it was live and approved before, so it is
deployed at once, and its answers are compared with those it gave when it was evaluated. Needs a reason, which is kept
in the audit log with your name.

Any other approved version: *Deploy model* with its number.
"""


@dag(
    dag_id="rollback_model",
    dag_display_name="Roll back model",
    description="The version that was live before is put live again.",
    doc_md=DOC,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=ORCHESTRATION.run_timeout_hours),
    tags=["ml-platform", "deployment", SETTINGS.environment],
    params={
        "dataset": Param(SETTINGS.training.dataset, enum=model_names(), description="Whose endpoint."),
        "reason": Param(type="string", minLength=3, maxLength=1000, description="Why; kept in the audit log."),
    },
    on_failure_callback=callbacks.deployment_run_failed,
    default_args=default_args(SETTINGS, callbacks.deployment_task_failed),
)
def rollback_model() -> None:
    """Wire the step back."""

    @task(doc_md="Which version was live before, and is there one?")
    @fail_without_retry
    def resolve_request(params: Any = None, run_id: Any = None, dag_run: Any = None) -> str:
        by = getattr(dag_run, "triggering_user_name", None) or "somebody by hand"
        return requests.rollback_requested(
            SETTINGS, params["dataset"], params["reason"].strip(), f"rollback_model/{run_id}", by
        )

    deployment_group(SETTINGS)(resolve_request())


rollback_model()
