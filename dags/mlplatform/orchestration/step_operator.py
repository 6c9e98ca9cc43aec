"""What the operators of the container steps have in common."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import generic_api_retry
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from mlplatform import storage
from mlplatform.documents.results import StepFailure
from mlplatform.errors import StorageError
from mlplatform.orchestration.pod_facts import has_ended, is_being_deleted
from mlplatform.orchestration.refusals import NoRoom, refusal, told_in_one_line
from mlplatform.people import report_links
from mlplatform.steps import ERROR, REPORT, RESULT, STEPS

PATIENCE_SECONDS = 60.0
"""How long Kubernetes may take for what it does by itself: make a job's pods, see that all have ended, delete them."""

_CALM_SECONDS = 600.0
# A task that resumes within a moment may be taken for dead: see `StepPodOperator`, attended_seconds.
_SHORTEST_WAIT_SECONDS = 5.0


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

    Where a quota is used up the task waits for room, deferred: it holds no worker and nothing in the cluster, and uses
    up no try. Airflow's own trigger wakes it up from time to time, and it asks for its pods again.

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
        self._waiting_since: datetime | None = None
        self._waited_seconds = 0.0
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

    @property
    def outlook(self) -> str:
        """What another try does after a pod was taken away."""
        if self.arguments[0] == "train":
            return "another try goes on from the last checkpoint, if one was written"
        return "another try does the step again"

    def defer(self, *, trigger: Any, **kwargs: Any) -> Any:
        """Hand over to the triggerer, which needs no connection either, and whose event says since when it watched."""
        trigger.connection_extras = {}
        told = {"deferred_at": time.time(), "waited_seconds": self._waited_seconds}
        trigger.trigger_kwargs = {**trigger.trigger_kwargs, **told}
        super().defer(trigger=trigger, **kwargs)

    def ask_again(self, context: Context, event: Any, since: str) -> Any:
        """Go on, as at first, after a wait for room."""
        self._waiting_since = datetime.fromisoformat(since)
        self._allow_for((datetime.now(UTC) - self._waiting_since).total_seconds())
        return self.execute(context)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Tell in one line what Kubernetes refuses; but wait where there is no room yet."""
        try:
            with told_in_one_line(self.arguments[0]):
                yield
        except NoRoom as refused:
            self._stop_if_killed()
            since = self._waiting_since or datetime.now(UTC)
            self.log.info(
                "waiting for room since %s UTC: %s; steps that end make room",
                f"{since:%Y-%m-%d %H:%M:%S}",
                refused.used,
            )
            # Not `self.defer`, whose trigger is one that watches a pod.
            super().defer(
                trigger=TimeDeltaTrigger(timedelta(seconds=max(self.poll_interval, _SHORTEST_WAIT_SECONDS))),
                method_name="ask_again",
                kwargs={"since": since.isoformat()},
            )

    def _allow_for(self, waited_seconds: float | None) -> None:
        """Leave the pod its whole time: Airflow counts it from the start of the try, which may have waited for room.

        Args:
            waited_seconds: in all; None where that is known already.
        """
        if waited_seconds is None:
            return
        self._waited_seconds = waited_seconds
        if self.execution_timeout is not None:
            self.execution_timeout += timedelta(seconds=waited_seconds)

    @staticmethod
    def was_calm(event: Mapping[str, Any]) -> bool:
        """Tell whether watching went well for some time: then its earlier failures do not count any more."""
        return bool(time.time() - event.get("deferred_at", time.time()) > _CALM_SECONDS)

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

    def _is_done_after_all(self, what: str) -> bool:
        """Tell whether a step whose pod was taken away had done its work before: its result is written last."""
        try:
            uri = self._finished_result()
        except Exception as error:  # whatever S3 says now, the pod's end is the news
            self.log.warning("whether the step has a result could not be read: %s", error)
            return False
        if uri is not None:
            self.log.warning("%s, but the step had done its work: %s is there", what, uri)
        return uri is not None

    def _events_about(self, name: str, kind: str = "Pod") -> list[k8s.CoreV1Event]:
        """Return the events of an object, also of one that is gone."""
        about = f"involvedObject.kind={kind},involvedObject.name={name}"
        try:
            return self._list_events(about)
        except (ApiException, HTTPError) as error:
            self.log.warning("the events of %s could not be read: %s", name, refusal(error))
            return []

    @generic_api_retry
    def _list_events(self, selector: str) -> list[k8s.CoreV1Event]:
        return list(self.client.list_namespaced_event(self.namespace, field_selector=selector).items)

    def _labels_of_all_tries(self, context: Context) -> str:
        """Return the selector of what this task's tries have in the cluster."""
        labels = self._get_ti_pod_labels(context, include_try_number=False)
        return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))

    def _leaving_pods(self, context: Context) -> list[k8s.V1Pod]:
        """Return the pods of earlier tries that are told to go and still run: in its grace, a pod saves its work."""
        pods = self._list_pods(self.namespace, self._labels_of_all_tries(context))
        return [pod for pod in pods if is_being_deleted(pod) and not has_ended(pod)]

    def _await_earlier_pods(self, context: Context) -> None:
        """Wait until pods of earlier tries that are being deleted have ended, so that no two write the same."""
        leaving = self._leaving_pods(context)
        deadline = time.monotonic() + patience_with(leaving)
        for pod in leaving:
            until = f"{pod.metadata.deletion_timestamp:%H:%M:%S} UTC"
            self.log.info("waiting for pod %s of an earlier try, which has until %s to end", pod.metadata.name, until)
        while leaving and time.monotonic() < deadline:
            time.sleep(min(self.poll_interval, 1))
            leaving = self._leaving_pods(context)
        self._stop_if_killed()
        self._leave_behind(leaving)

    def _stop_if_killed(self) -> None:
        """Start nothing more in a task that was told to end: Airflow's signal calls `on_kill`, and lets it go on."""
        if self._killed:
            raise AirflowException("the task was told to end")

    def _leave_behind(self, pods: Iterable[k8s.V1Pod]) -> None:
        # Nobody but its node can say that a pod has ended. Without its node, it stays for as long as the node's object
        # does, which may be for ever; and a node that nobody reaches is as a rule one that is gone.
        for pod in pods:
            self.log.warning(
                "going on without waiting for pod %s of an earlier try: its grace is over, its node may be lost",
                pod.metadata.name,
            )

    @generic_api_retry
    def _list_pods(self, namespace: str, selector: str) -> list[k8s.V1Pod]:
        return list(self.client.list_namespaced_pod(namespace, label_selector=selector).items)

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


def patience_with(pods: Iterable[k8s.V1Pod]) -> float:
    """Return for how many seconds at most pods that are being deleted are waited for: their grace, and some more."""
    now = datetime.now(UTC)
    left = [
        # The API server's clock may go differently.
        min((pod.metadata.deletion_timestamp - now).total_seconds(), pod.metadata.deletion_grace_period_seconds or 0)
        for pod in pods
    ]
    return max([0.0, *left]) + PATIENCE_SECONDS
