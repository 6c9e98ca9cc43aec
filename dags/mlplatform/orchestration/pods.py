"""Container steps as pods on Kubernetes."""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import generic_api_retry
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager, PodPhase
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from mlplatform.orchestration.disruptions import gone, taken_away, told_by_events
from mlplatform.orchestration.pod_facts import disruption, exit_code, has_ended, is_being_deleted
from mlplatform.orchestration.pod_status import explain
from mlplatform.orchestration.refusals import refusal, told_in_one_line
from mlplatform.orchestration.step_operator import StepOperator, patience_with
from mlplatform.steps import EXIT_NON_RETRYABLE


class _PodManager(PodManager):
    """A PodManager that does not write the whole pod into the log, with a stack trace, where it is refused."""

    def run_pod_async(self, pod: k8s.V1Pod, **kwargs: Any) -> k8s.V1Pod:
        """Create a pod."""
        return self._client.create_namespaced_pod(body=pod, namespace=pod.metadata.namespace, **kwargs)


class StepPodOperator(StepOperator):
    """A KubernetesPodOperator that knows the contract of the container steps.

    * Exit code 64 fails the task without retry, with the step's own message.
    * Other ends are told in one line each, with the setting to look at, and may be tried again.
    * A pod that was taken away is told by what, as far as Kubernetes says so; its log is read if it is still there.
    * Another try takes up a pod that runs; for one that is being deleted it waits, and makes a new one.

    Args:
        attended_seconds: how long to stay with a new pod before deferring. A step that ends sooner saves the way
            to the triggerer and back, and a race of Airflow's (as of 3.2): a task that resumes before the
            scheduler has heard of the end of its first process is taken for dead.
    """

    pod: k8s.V1Pod | None

    def __init__(self, *, attended_seconds: float = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.attended_seconds = attended_seconds
        self._attend = False
        self._seen: k8s.V1Pod | None = None

    @cached_property
    def pod_manager(self) -> PodManager:
        """What creates the pod and reads its log."""
        return _PodManager(kube_client=self.client, callbacks=self.callbacks)

    def build_pod_request_obj(self, context: Context | None = None, *, dry_run: bool = False) -> k8s.V1Pod:
        """Return the pod, without what only a GPU needs if it is to have none."""
        self._leave_out_gpu()
        return super().build_pod_request_obj(context, dry_run=dry_run)

    def execute(self, context: Context) -> Any:
        """Run the step in a pod, unless its result is already there."""
        if self.is_done(context):
            return None
        with self._asking():
            return super().execute(context)

    def execute_async(self, context: Context) -> None:
        """Start the pod, or take up the one that is there, and see whether it ends soon."""
        self._attend = True
        super().execute_async(context)

    def invoke_defer_method(self, last_log_time: Any = None, context: Context | None = None) -> None:
        """Hand over to the triggerer, unless the pod has ended or is about to: then its end is dealt with at once."""
        if self._killed:  # perhaps while the pod was made, when `on_kill` did not know of it yet
            self.on_kill()
            self._stop_if_killed()
        if self._attend and self.pod is not None:
            self._attend = False
            name = self.pod.metadata.name
            self.pod = self._attended_pod(self.pod)
            if self.pod is None or is_being_deleted(self.pod):
                event = {"status": "failed", "message": "deleted", "name": name, "namespace": self.namespace}
                self.trigger_reentry(context, event)
                return
        super().invoke_defer_method(last_log_time=last_log_time, context=context)

    def find_pod(self, namespace: str, context: Context, *, exclude_checked: bool = True) -> k8s.V1Pod | None:
        """Return the pod of an earlier try that is to be taken up, once all other pods of this task have ended.

        One that is being deleted is not taken up: it ends within its grace period. Of several others, as after a task
        that ran twice, the oldest that runs goes on, because it has done most.
        """
        selector = self._build_find_pod_label_selector(context, exclude_checked=exclude_checked)
        for surplus in self._present_pods(namespace, selector)[1:]:
            self.log.warning("pod %s does the same as an older one of this task", surplus.metadata.name)
            self.process_pod_deletion(surplus)
        self._await_earlier_pods(context)
        pod = next(iter(self._present_pods(namespace, selector)), None)
        if pod is not None:
            self.log_matching_pod(pod=pod, context=context)
        return pod

    def _get_pod_from_task_state_store(self, context: Context) -> None:
        """Look for pods by their labels alone: of a name that Airflow (from 3.3) keeps, nobody asks whether it goes."""

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """Deal with the end of the pod, or with what became of watching it."""
        event = {key: value for key, value in event.items() if key != "stack_trace"}  # people read the message
        event["message"] = refusal(event.get("message", ""))
        self._allow_for(event.get("waited_seconds"))
        if self.was_calm(event):
            event.pop("_redefer_count", None)
        name = event["name"]
        with told_in_one_line(self.arguments[0]):
            present = self._read_pod(name)
            if present is None:
                self.log.warning("the log of pod %s went with it (docs/runbooks/pod-failures.md: where to look)", name)
            elif is_being_deleted(present) and event["status"] == "error":
                event["status"] = "failed"  # to be watched to its end here, not from one poll to the next
            try:
                return super().trigger_reentry(context, event)
            except (AirflowFailException, AirflowSkipException):
                raise
            except AirflowException as error:
                return self._failed(name, error)

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
            raise self._failure(remote_pod) from None

    def _failure(self, pod: k8s.V1Pod) -> AirflowException:
        container = self.base_container_name
        reason = explain(pod, container, self.outlook)
        if exit_code(pod, container) == EXIT_NON_RETRYABLE:
            return AirflowFailException(self._own_words() or reason)
        taken = taken_away(pod, container)
        if taken is not None and reason.startswith(taken) and disruption(pod) is None:  # its events may know more
            name = pod.metadata.name
            told = told_by_events(name, self._events_about(name))
            reason = f"{told}; {self.outlook}" if told else reason
        return AirflowException(reason)

    def _failed(self, name: str, error: AirflowException) -> None:
        """Raise the error as which a pod's end is told, unless its step was done by then."""
        pod, container = self.pod, self.base_container_name
        if pod is not None:
            taken = taken_away(pod, container)
            # A lost node does not tell the phase any more of a pod whose container it told to have ended.
            if pod.status.phase == PodPhase.SUCCEEDED or (taken is None and exit_code(pod, container) == 0):
                return
            if taken is not None and self._is_done_after_all(taken):
                return
            raise error
        seen = self._seen
        if (
            seen is not None
            and taken_away(seen, container) is None
            and (code := exit_code(seen, container)) is not None
        ):
            if code == 0:
                return
            raise self._failure(seen) from None
        events = self._events_about(name)
        for event in events:
            self.log.info("event of pod %s: %s: %s", name, event.reason, event.message)
        told = (taken_away(seen, container) if seen is not None and disruption(seen) else None) or gone(name, events)
        if not self._is_done_after_all(told):
            raise AirflowException(f"{told}; {self.outlook}") from None

    def _clean(self, event: dict[str, Any], result: dict[str, Any] | None, context: Context) -> None:
        """Wait for the pod's end, but not for ever for one that is being deleted: its node may be lost."""
        if self.pod is not None and is_being_deleted(self.pod):
            self.pod = self._until_it_ends(self.pod)
            event = {**event, "status": "timeout"}  # which is not waited for
        super()._clean(event=event, result=result, context=context)

    def _until_it_ends(self, pod: k8s.V1Pod) -> k8s.V1Pod | None:
        """Return a pod that is being deleted when it has ended, or as it is when its time is over; None if gone."""
        deadline = time.monotonic() + patience_with([pod])
        while not has_ended(pod) and time.monotonic() < deadline:
            time.sleep(min(self.poll_interval, 1))
            present = self._read_pod(pod.metadata.name)
            if present is None:
                return None
            pod = present
        return pod

    def _attended_pod(self, pod: k8s.V1Pod) -> k8s.V1Pod | None:
        """Return the pod when it has ended, or is about to, or time is up; None if it is gone."""
        deadline = time.monotonic() + self.attended_seconds
        while time.monotonic() < deadline:
            time.sleep(min(self.poll_interval, 1))
            try:
                present = self.hook.get_pod(pod.metadata.name, pod.metadata.namespace)
            except ApiException as error:
                if error.status == 404:
                    return None
                return pod
            except HTTPError:  # the triggerer knows better how to be patient
                return pod
            self._seen = present
            if has_ended(present) or is_being_deleted(present):
                return present
        return pod

    @generic_api_retry
    def _read_pod(self, name: str) -> k8s.V1Pod | None:
        """Return a pod, None if it is gone; what was last seen of it is kept."""
        try:
            self._seen = self.hook.get_pod(name, self.namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            return None
        return self._seen

    def _present_pods(self, namespace: str, selector: str) -> list[k8s.V1Pod]:
        """Return the pods that nobody has told to go, those first that run, of them the oldest."""
        pods = [pod for pod in self._list_pods(namespace, selector) if not is_being_deleted(pod)]
        return sorted(pods, key=lambda pod: (has_ended(pod), pod.metadata.creation_timestamp))
