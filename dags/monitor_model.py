"""Watch what live models are asked and answer. Wiring only; the work is in ``mlplatform`` and the step `monitor`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from mlplatform.config.loading import load_settings, model_names
from mlplatform.documents.monitoring import MonitoringVerdict
from mlplatform.monitoring import retraining, windows
from mlplatform.orchestration import callbacks, notifications
from mlplatform.orchestration.assets import RETRAINING_WANTED
from mlplatform.orchestration.defaults import default_args
from mlplatform.orchestration.pod_options import step_arguments, step_options
from mlplatform.orchestration.pods import StepPodOperator
from mlplatform.orchestration.retries import fail_without_retry

SETTINGS = load_settings()
ORCHESTRATION = SETTINGS.orchestration

DOC = """
### Monitor a model

Compares the captured requests and answers of the last hours with what the model was trained and evaluated on, and,
where labels have landed, with what really happened. If something has drifted or got worse, people are told; where
`monitoring.action` is `retrain`, *Train model* is started, at most once in `monitoring.cool_down_hours`.

| You want to | Do |
|---|---|
| see how the live model does | button *Report* of the task `monitor` |
| know what the numbers mean, or land labels | docs/monitoring.md |
| look at another dataset | trigger with `dataset` |
"""

PREPARED = "ti.xcom_pull(task_ids='choose_window')"


@dag(
    dag_id="monitor_model",
    dag_display_name="Monitor model",
    description="What the live model is asked and answers, compared with what it was trained and evaluated on.",
    doc_md=DOC,
    schedule=SETTINGS.monitoring.schedule,
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=ORCHESTRATION.run_timeout_hours),
    tags=["ml-platform", "monitoring", SETTINGS.environment],
    params={
        "dataset": Param(SETTINGS.training.dataset, enum=model_names(), description="Whose endpoint."),
    },
    on_failure_callback=callbacks.deployment_run_failed,
    default_args=default_args(SETTINGS, callbacks.deployment_task_failed),
)
def monitor_model() -> None:
    """Wire the monitoring."""

    @task(doc_md="Which requests are looked at; ends the run where no model is live yet.")
    @fail_without_retry
    def choose_window(params: Any = None, run_id: Any = None, dag_run: Any = None) -> dict[str, str]:
        chosen = windows.prepare(SETTINGS, params["dataset"], dag_run.run_after, f"monitor_model/{run_id}")
        if chosen is None:
            raise AirflowSkipException(f"{params['dataset']}: no model is live yet")
        return chosen

    monitor = StepPodOperator(
        task_id="monitor",
        arguments=step_arguments("monitor", _of("config"), _of("input"), _of("output")),
        doc_md="Measures drift and quality of each version, and says what that means.",
        **step_options(SETTINGS, "monitor", _of("run_key")),
    )

    @task(doc_md="Tells people if something has drifted or got worse.")
    @fail_without_retry
    def conclude(params: Any = None, ti: Any = None) -> dict[str, Any]:
        prefix = ti.xcom_pull(task_ids="choose_window")["output"]
        verdict, message = windows.conclude(SETTINGS, params["dataset"], prefix)
        if message is not None:
            notifications.send(SETTINGS, message)
        return verdict.model_dump(mode="json")

    @task(
        outlets=[RETRAINING_WANTED],
        doc_md="Asks for a retraining, if the settings want one and the last one is long enough ago.",
    )
    @fail_without_retry
    def want_retraining(
        verdict: dict[str, Any],
        params: Any = None,
        ti: Any = None,
        run_id: Any = None,
        dag_run: Any = None,
        outlet_events: Any = None,
    ) -> dict[str, Any]:
        dataset, name = params["dataset"], f"monitor_model/{run_id}"
        found = MonitoringVerdict.model_validate(verdict, extra="ignore")
        refusal = retraining.claim(SETTINGS, dataset, found, name, dag_run.run_after)
        if refusal is not None:
            raise AirflowSkipException(f"no retraining: {refusal}")
        wanted = retraining.parameters(ti.xcom_pull(task_ids="choose_window")["config"])
        outlet_events[RETRAINING_WANTED].extra = {
            "dataset": dataset,
            "family": wanted["family"],
            "reasons": found.reasons,
        }
        return wanted

    verdict = conclude()
    wanted = want_retraining(verdict)
    train = TriggerDagRunOperator(
        task_id="train",
        trigger_dag_id="train_model",
        # The same on every try, so that there is one training.
        trigger_run_id="{{ 'monitoring__' ~ run_id }}",
        conf="{{ ti.xcom_pull(task_ids='want_retraining') | tojson }}",
        logical_date=None,  # what is trained on does not depend on a date
        skip_when_already_exists=True,
        doc_md="Starts *Train model* of the live model's family on the data accepted so far.",
    )
    choose_window() >> monitor >> verdict
    wanted >> train


def _of(key: str) -> str:
    return f"{{{{ {PREPARED}['{key}'] }}}}"


monitor_model()
