"""Go back to the model that was live before: a DAG for each dataset. Wiring only; the work is in ``mlplatform``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from mlplatform.config.loading import Dataset
from mlplatform.config.names import DEPLOYMENT_POOL, dag_id, owner_of_run
from mlplatform.deployment import requests
from mlplatform.orchestration import callbacks, datasets
from mlplatform.orchestration.defaults import dag_options, default_args, give_params
from mlplatform.orchestration.groups import deployment_group
from mlplatform.orchestration.retries import fail_without_retry

DOC = """
### Roll back a model

Puts the version of the alias `previous` back on the endpoint, in one step: it was live and approved before, so it is
deployed at once, and its answers are compared with those it gave when it was evaluated. Needs a reason, which is kept
in the audit log with your name.

Any other approved version: the dataset's DAG `deploy__…` with its number.
"""

PARAMS = {
    "reason": Param(type="string", minLength=3, maxLength=1000, description="Why; kept in the audit log."),
}
# Whoever is served by a bad model waits for nobody else's deployment.
PRIORITY = 100


def rollback(dataset: Dataset) -> None:
    """Make the DAG of a dataset."""

    @dag(
        dag_id=dag_id("rollback", dataset.name),
        dag_display_name=f"Roll back {dataset.name}",
        description="The version that was live before is put live again.",
        doc_md=DOC,
        schedule=None,
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=dataset.settings.orchestration.run_timeout_hours),
        on_failure_callback=callbacks.deployment_run_failed,
        default_args={
            **default_args(dataset, callbacks.deployment_task_failed),
            "pool": DEPLOYMENT_POOL,
            "priority_weight": PRIORITY,
        },
        **dag_options(dataset, "deployment"),
    )
    def rollback_model() -> None:
        """Wire the step back."""

        @task(doc_md="Which version was live before, and is there one?")
        @fail_without_retry
        def resolve_request(params: Any = None, run_id: Any = None, dag_run: Any = None) -> str:
            by = getattr(dag_run, "triggering_user_name", None) or "somebody by hand"
            owner = owner_of_run(dag_id("rollback", dataset.name), run_id)
            return requests.rollback_requested(dataset.settings, dataset.name, params["reason"].strip(), owner, by)

        deployment_group(dataset)(resolve_request())

    give_params(rollback_model(), PARAMS)


for each in datasets.to_make("rollback"):
    rollback(each)
