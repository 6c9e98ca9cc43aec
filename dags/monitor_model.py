"""Watch what live models are asked and answer: a DAG for each dataset.

Wiring only; the work is in ``mlplatform`` and the step `monitor`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowSkipException

from mlplatform.config.loading import Dataset
from mlplatform.config.names import dag_id, owner_of_run
from mlplatform.documents.monitoring import MonitoringVerdict
from mlplatform.monitoring import retraining, windows
from mlplatform.orchestration import callbacks, datasets, notifications
from mlplatform.orchestration.assets import retraining_wanted
from mlplatform.orchestration.defaults import dag_options, default_args
from mlplatform.orchestration.pod_options import step_arguments, step_options
from mlplatform.orchestration.pods import StepPodOperator
from mlplatform.orchestration.retries import fail_without_retry

DOC = """
### Monitor a model

Compares the captured requests and answers of the last hours with what the model was trained and evaluated on, and,
where labels have landed, with what really happened. If something has drifted or got worse, people are told; where
`monitoring.action` is `retrain`, the dataset's training is started, at most once in `monitoring.cool_down_hours`.

| You want to | Do |
|---|---|
| see how the live model does | button *Report* of the task `monitor` |
| know what the numbers mean, or land labels | docs/monitoring.md |
"""

PREPARED = "ti.xcom_pull(task_ids='choose_window')"


def _of(key: str) -> str:
    return f"{{{{ {PREPARED}['{key}'] }}}}"


def monitor_of(dataset: Dataset) -> None:
    """Make the DAG of a dataset."""
    settings, wish = dataset.settings, retraining_wanted(dataset.name)
    this = dag_id("monitor", dataset.name)

    @dag(
        dag_id=this,
        dag_display_name=f"Monitor {dataset.name}",
        description="What the live model is asked and answers, compared with what it was trained and evaluated on.",
        doc_md=DOC,
        schedule=settings.monitoring.schedule,
        start_date=datetime(2024, 1, 1, tzinfo=UTC),
        max_active_runs=1,
        dagrun_timeout=timedelta(hours=settings.orchestration.run_timeout_hours),
        on_failure_callback=callbacks.deployment_run_failed,
        default_args=default_args(dataset, callbacks.deployment_task_failed),
        **dag_options(dataset, "monitoring"),
    )
    def monitor_model() -> None:
        """Wire the monitoring."""

        @task(doc_md="Which requests are looked at; ends the run where no model is live yet.")
        @fail_without_retry
        def choose_window(run_id: Any = None, dag_run: Any = None) -> dict[str, str]:
            chosen = windows.prepare(settings, dataset.name, dag_run.run_after, owner_of_run(this, run_id))
            if chosen is None:
                raise AirflowSkipException(f"{dataset.name}: no model is live yet")
            return chosen

        monitor = StepPodOperator(
            task_id="monitor",
            arguments=step_arguments("monitor", _of("config"), _of("input"), _of("output")),
            doc_md="Measures drift and quality of each version, and says what that means.",
            **step_options(dataset, "monitor", _of("run_key")),
        )

        @task(doc_md="Tells people if something has drifted or got worse.")
        @fail_without_retry
        def conclude(ti: Any = None) -> dict[str, Any]:
            prefix = ti.xcom_pull(task_ids="choose_window")["output"]
            verdict, message = windows.conclude(settings, dataset.name, prefix)
            if message is not None:
                notifications.send(settings, message)
            return verdict.model_dump(mode="json")

        @task(
            outlets=[wish],
            doc_md="Asks for a retraining, if the settings want one and the last one is long enough ago.",
        )
        @fail_without_retry
        def want_retraining(
            verdict: dict[str, Any],
            ti: Any = None,
            run_id: Any = None,
            dag_run: Any = None,
            outlet_events: Any = None,
        ) -> dict[str, Any]:
            owner = owner_of_run(this, run_id)
            found = MonitoringVerdict.model_validate(verdict, extra="ignore")
            refusal = retraining.claim(settings, dataset.name, found, owner, dag_run.run_after)
            if refusal is not None:
                raise AirflowSkipException(f"no retraining: {refusal}")
            wanted = retraining.parameters(ti.xcom_pull(task_ids="choose_window")["config"])
            outlet_events[wish].extra = {
                "dataset": dataset.name,
                "family": wanted["family"],
                "reasons": found.reasons,
            }
            return wanted

        verdict = conclude()
        wanted = want_retraining(verdict)
        train = TriggerDagRunOperator(
            task_id="train",
            trigger_dag_id=dag_id("train", dataset.name),
            # The same on every try, so that there is one training.
            trigger_run_id="{{ 'monitoring__' ~ run_id }}",
            conf="{{ ti.xcom_pull(task_ids='want_retraining') | tojson }}",
            logical_date=None,  # what is trained on does not depend on a date
            skip_when_already_exists=True,
            doc_md="Starts training of the live model's family on the data accepted so far.",
        )
        choose_window() >> monitor >> verdict
        wanted >> train

    monitor_model()


for each in datasets.to_make("monitor"):
    monitor_of(each)
