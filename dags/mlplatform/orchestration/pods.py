"""Container steps as pods on Kubernetes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodPhase
from airflow.sdk import BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from mlplatform import storage
from mlplatform.documents.results import StepFailure
from mlplatform.errors import StorageError
from mlplatform.orchestration.pod_status import exit_code, explain
from mlplatform.people import report_links
from mlplatform.steps import ERROR, EXIT_NON_RETRYABLE, REPORT, RESULT, STEPS


class ReportLink(BaseOperatorLink):
    """Leads from a step's task to the report it wrote, as a button on the task's page and as XCom ``report``.

    Airflow asks for it once, in the task's own process when it ends, so that no plugin is needed.
    """

    name = "Report"
    xcom_key = "report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the report's address for a browser, empty if the step has written none."""
        uri: str | None = operator.report_uri()
        if uri is None:
            return ""
        address = report_links.page(uri)
        operator.log.info("report: %s", address)
        return address


class StepOperator(KubernetesPodOperator):
    """What the operators of the container steps have in common, whether a step is one pod or several.

    A step whose valid result is already there needs no pod. All that is needed of the cluster is in the kubeconfig.

    Args:
        has_report: whether the step writes a report, to which the task then has a link.
        gpu: whether the pod is to have what was given for a GPU; a template that gives ``True`` or ``False``.
        without_gpu: arguments that the pod has instead of those given, where ``gpu`` is ``False``.
    """

    template_fields = (*KubernetesPodOperator.template_fields, "gpu")

    def __init__(
        self,
        *,
        has_report: bool = False,
        gpu: str = "True",
        without_gpu: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gpu = gpu
        self.without_gpu = without_gpu
        if has_report:
            self.operator_extra_links = (ReportLink(),)

    def is_done(self, context: Context) -> bool:
        """Tell whether the step's result is already there, so that it needs no pod."""
        # Only on the first try: a later one may have to take over, and clear away, the first one's pod.
        if context["ti"].try_number == 1 and (uri := self._finished_result()) is not None:
            self.log.info("nothing to do, %s is already there", uri)
            return True
        return False

    def report_uri(self) -> str | None:
        """Return the S3 address of the report the step wrote: its result names it; without one it may still be there.

        A validation that refuses files has no result, and its report is the one that is wanted most.
        """
        output = self._argument("--output")
        if output is None:
            return None
        result = storage.try_read_document(storage.join(output, RESULT), STEPS[self.arguments[0]].result)
        if result is not None:
            return getattr(result, "report_uri", None)
        usual = storage.join(output, REPORT)
        return usual if any(storage.list_objects(usual)) else None

    @cached_property
    def hook(self) -> KubernetesHook:
        """The cluster's client; all it needs is in the kubeconfig, so no connection is looked up."""
        return KubernetesHook(
            conn_id=None,
            kubernetes_conn_id=None,
            in_cluster=False,
            config_file=self.config_file,
            cluster_context=self.cluster_context,
        )

    def defer(self, *, trigger: Any, **kwargs: Any) -> Any:
        """Hand over to the triggerer, which needs no connection either."""
        trigger.connection_extras = {}
        super().defer(trigger=trigger, **kwargs)

    def _leave_out_gpu(self) -> None:
        """Change the arguments to those without a GPU, if there is to be none."""
        if self.gpu == "False":
            for name, value in (self.without_gpu or {}).items():
                setattr(self, name, value)

    def _argument(self, option: str) -> str | None:
        arguments = list(self.arguments)
        return arguments[arguments.index(option) + 1] if option in arguments[:-1] else None

    def _finished_result(self) -> str | None:
        output = self._argument("--output")
        if output is None:
            return None
        uri = storage.join(output, RESULT)
        try:
            found = storage.try_read_document(uri, STEPS[self.arguments[0]].result)
        except StorageError as error:
            self.log.warning("%s; doing the step again", error)
            return None
        return uri if found is not None else None

    def _own_words(self) -> str | None:
        output = self._argument("--output")
        if output is None:
            return None
        try:
            failure = storage.try_read_document(storage.join(output, ERROR), StepFailure)
        except Exception as error:  # whatever S3 says now, the pod's failure is the news
            self.log.warning("the reason in %s could not be read: %s", storage.join(output, ERROR), error)
            return None
        return f"{failure.step}: {failure.message}" if failure else None


class StepPodOperator(StepOperator):
    """A KubernetesPodOperator that knows the contract of the container steps.

    * Exit code 64 fails the task without retry, with the step's own message.
    * Other ends are told in one line each, with the setting to look at, and may be tried again.

    Args:
        attended_seconds: how long to stay with a new pod before deferring. A step that ends sooner saves the way
            to the triggerer and back, and a race of Airflow's (as of 3.2): a task that resumes before the
            scheduler has heard of the end of its first process is taken for dead.
    """

    pod: k8s.V1Pod

    def __init__(self, *, attended_seconds: float = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attended_seconds = attended_seconds
        self._attend = False

    def build_pod_request_obj(self, context: Context | None = None, *, dry_run: bool = False) -> k8s.V1Pod:
        """Return the pod, without what only a GPU needs if it is to have none."""
        self._leave_out_gpu()
        return super().build_pod_request_obj(context, dry_run=dry_run)

    def execute(self, context: Context) -> Any:
        """Run the step in a pod, unless its result is already there."""
        return None if self.is_done(context) else super().execute(context)

    def execute_async(self, context: Context) -> None:
        """Start the pod, or take up the one that is there, and see whether it ends soon."""
        self._attend = True
        super().execute_async(context)

    def invoke_defer_method(self, last_log_time: Any = None, context: Context | None = None) -> None:
        """Hand over to the triggerer, unless the pod has ended: then the end is dealt with at once."""
        if self._attend:
            self._attend = False
            self.pod = self._attended_pod(self.pod)
        super().invoke_defer_method(last_log_time=last_log_time, context=context)

    def cleanup(
        self,
        pod: k8s.V1Pod,
        remote_pod: k8s.V1Pod,
        xcom_result: dict[str, Any] | None = None,
        context: Context | None = None,
    ) -> None:
        """Delete the pod, and say in the step's own words why it failed."""
        try:
            super().cleanup(pod=pod, remote_pod=remote_pod, xcom_result=xcom_result, context=context)
        except AirflowSkipException:
            raise
        except AirflowException:
            reason = explain(remote_pod, self.base_container_name)
            if exit_code(remote_pod, self.base_container_name) == EXIT_NON_RETRYABLE:
                raise AirflowFailException(self._own_words() or reason) from None
            raise AirflowException(reason) from None

    def _attended_pod(self, pod: k8s.V1Pod) -> k8s.V1Pod:
        deadline = time.monotonic() + self.attended_seconds
        while time.monotonic() < deadline:
            time.sleep(min(self.poll_interval, 1))
            try:
                present = self.hook.get_pod(pod.metadata.name, pod.metadata.namespace)
            except (ApiException, HTTPError):  # the triggerer knows better how to be patient
                return pod
            if present.status.phase in (PodPhase.SUCCEEDED, PodPhase.FAILED):
                return present
        return pod
