"""Put an approved model live: a DAG for each dataset. Wiring only; the work is in ``mlplatform``."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, task

from mlplatform.config.loading import Dataset
from mlplatform.config.names import DEPLOYMENT_POOL, dag_id, owner_of_run
from mlplatform.deployment import requests
from mlplatform.orchestration import callbacks, datasets
from mlplatform.orchestration.assets import approved_models
from mlplatform.orchestration.defaults import dag_options, default_args, give_params
from mlplatform.orchestration.groups import deployment_group
from mlplatform.orchestration.retries import fail_without_retry

DOC = """
### Deploy a model

Starts by itself when a model version was approved. The version's approval is verified against its tags, the audit
log and the digests of model and evaluation; then it goes to the endpoint, is tried there, and becomes `champion`.
If anything goes wrong, what was live stays live.

| You want to | Do |
|---|---|
| deploy an approved version again | trigger with its `version` |
| test a version against it on live requests (A/B) | name it as `challenger`, with its `challenger_weight` |
| deploy a version without approval | `force` with a `reason`, where `approval.allow_force` permits |
| go back one version | the dataset's DAG `rollback__…` |
| know why it failed | the message, or `error.json` under `s3://<data>/deployments/<dataset>/<id>/` |
| know what is live, and who approved it | docs/runbooks/what-is-live.md |
"""

PARAMS = {
    "version": Param(
        None,
        type=["null", "string"],
        pattern=r"^[0-9]+$",
        description="Version of the registered model; an approval that started the run says it.",
    ),
    "reason": Param("", type="string", maxLength=1000, description="Why; kept in the audit log."),
    "force": Param(False, type="boolean", description="Deploy without approval, where the environment allows it."),
    "challenger": Param(
        None,
        type=["null", "string"],
        pattern=r"^[0-9]+$",
        description="A second approved version, that answers a share of the requests (A/B test).",
    ),
    "challenger_weight": Param(
        0.1,
        type="number",
        exclusiveMinimum=0,
        exclusiveMaximum=1,
        description="Share of the requests that the challenger answers.",
    ),
}


def deploy(dataset: Dataset) -> None:
    """Make the DAG of a dataset."""
    approved = approved_models(dataset.name)

    @dag(
        dag_id=dag_id("deploy", dataset.name),
        dag_display_name=f"Deploy {dataset.name}",
        description="An approved model goes to its endpoint and becomes champion, or nothing changes.",
        doc_md=DOC,
        schedule=[approved],
        max_active_runs=1,  # deployments take turns; the deployer holds a lock of the endpoint besides
        dagrun_timeout=timedelta(hours=dataset.settings.orchestration.run_timeout_hours),
        on_failure_callback=callbacks.deployment_run_failed,
        default_args={**default_args(dataset, callbacks.deployment_task_failed), "pool": DEPLOYMENT_POOL},
        **dag_options(dataset, "deployment"),
    )
    def deploy_model() -> None:
        """Wire the deployment."""

        @task(doc_md="Which version: that of the approval that started the run, or the one that a person names.")
        @fail_without_retry
        def resolve_request(
            params: Any = None, run_id: Any = None, dag_run: Any = None, triggering_asset_events: Any = None
        ) -> list[str]:
            events = sorted(triggering_asset_events.get(approved, ()), key=lambda event: event.timestamp)
            by = getattr(dag_run, "triggering_user_name", None) or "somebody by hand"
            extras = [event.extra for event in events]
            wanted = {**params, "dataset": dataset.name}
            owner = owner_of_run(dag_id("deploy", dataset.name), run_id)
            return requests.requested(dataset.settings, extras, wanted, owner, by)

        deployment_group(dataset).expand(prefix=resolve_request())  # type: ignore[attr-defined]

    give_params(deploy_model(), PARAMS)


for each in datasets.to_make("deploy"):
    deploy(each)
