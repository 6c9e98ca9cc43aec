"""The tasks of one deployment or step back, which the DAGs that deploy and roll back share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.sdk import TriggerRule, task, task_group
from airflow.sdk.exceptions import AirflowSkipException

from mlplatform.config.loading import Dataset
from mlplatform.deployment import tasks
from mlplatform.orchestration import notifications
from mlplatform.orchestration.pod_options import step_arguments, step_options
from mlplatform.orchestration.pods import StepPodOperator
from mlplatform.orchestration.retries import fail_without_retry

GROUP = "deployment"
# What `verify_approval` of the same deployment returned.
_STEP = f"ti.xcom_pull(task_ids='{GROUP}.verify_approval', map_indexes=ti.map_index)"


def deployment_group(dataset: Dataset) -> Callable[..., Any]:
    """Return the task group of a deployment; its argument is the deployment's S3 prefix.

    Several deployments of a DAG run are mapped, and each ends for itself.
    """
    settings = dataset.settings

    @task_group(group_id=GROUP, tooltip="Put it live, or leave everything as it was.")
    def deployment(prefix: Any) -> None:
        @task(doc_md="Verifies approval, audit log and digests, and writes the configuration of the deployment.")
        @fail_without_retry
        def verify_approval(prefix: str) -> dict[str, str]:
            return tasks.prepare(settings, prefix)

        verified = verify_approval(prefix)
        deploy = StepPodOperator(
            task_id="deploy",
            arguments=step_arguments("deploy", _of("config"), _of("input"), _of("output")),
            doc_md="Puts the version on the endpoint, tries it, then calls it `champion`; or restores the old one.",
            **step_options(dataset, "deploy", _of("run_key")),
        )

        @task(doc_md="Writes the deployment into the audit log and tells people.")
        @fail_without_retry
        def conclude(prefix: str) -> str:
            message = tasks.conclude(settings, prefix)
            notifications.send(settings, message)
            return message.text

        @task(
            trigger_rule=TriggerRule.ONE_FAILED,
            doc_md="Writes the failure into the audit log and tells people why, and where the log is.",
        )
        @fail_without_retry
        def tell_failure(prefix: str | None, ti: Any = None) -> str:
            if prefix is None:
                raise AirflowSkipException("there is no deployment: an earlier task failed, see its log")
            known = ti.xcom_pull(task_ids=f"{GROUP}.verify_approval", map_indexes=ti.map_index)
            failed = "deploy" if known else "verify_approval"
            message = tasks.failed(settings, prefix, ti.log_url.replace("tell_failure", failed))
            notifications.send(settings, message)
            return message.text

        verified >> deploy >> conclude(prefix)
        [verified, deploy] >> tell_failure(prefix)

    made: Callable[..., Any] = deployment
    return made


def _of(key: str) -> str:
    return f"{{{{ {_STEP}['{key}'] }}}}"
