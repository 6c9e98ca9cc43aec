"""Training over several pods as an indexed Job on Kubernetes.

All pods of a trial run the same command. They find one another by the name of the first, which the headless Service
`SERVICE` gives it, and tell by ``JOB_COMPLETION_INDEX`` which of them they are; see `trainer.launch`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import generic_api_retry
from airflow.providers.cncf.kubernetes.operators.job import KubernetesJobOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from mlplatform.config.loading import Dataset
from mlplatform.orchestration.job_status import explain_job, first_end, made, not_made, not_started
from mlplatform.orchestration.pod_facts import disruption, exit_code, has_ended, is_being_deleted
from mlplatform.orchestration.pod_options import step_options
from mlplatform.orchestration.pod_status import explain
from mlplatform.orchestration.pods import StepPodOperator
from mlplatform.orchestration.quotas import used_up
from mlplatform.orchestration.refusals import failure_of, refusal, told_in_one_line
from mlplatform.orchestration.step_operator import PATIENCE_SECONDS, StepOperator, patience_with
from mlplatform.steps import EXIT_NON_RETRYABLE

SERVICE = "distributed-training"
"""The headless Service of config/kubernetes that gives the pods their names."""
FIRST_PORT = 29500
"""Of the rendezvous of map index 0; each further one has the next, as on one machine all would share it."""
_INDEX = "batch.kubernetes.io/job-completion-index"
_KEPT_SECONDS = 24 * 3600


class StepJobOperator(StepOperator, KubernetesJobOperator):
    """A KubernetesJobOperator for a step of several pods, of which the first leads and writes the result.

    It tells ends as `StepPodOperator` does. The job fails as soon as one of its pods does; another try is Airflow's,
    and goes on from the step's checkpoint. What an earlier try left is deleted first, so that no two train the same.

    While it is deferred, the provider's trigger for pods watches the first pod: the one for jobs (as of 10.25) takes
    no kubeconfig but the default one, sets no limit to starting, and leaves the job running when the task is cleared
    or marked. Deleting the first pod ends the job.

    Args:
        pods_per_trial: how many.
        startup_seconds: how long the pods may take until they run; not part of the step's own time.
    """

    template_fields = (*KubernetesJobOperator.template_fields, "gpu")
    name: str | None
    pods: Sequence[k8s.V1Pod] = ()

    def __init__(
        self, *, pods_per_trial: int, startup_seconds: float = 0, attended_seconds: float = 0, **kwargs: Any
    ) -> None:
        super().__init__(
            completion_mode="Indexed",
            completions=pods_per_trial,
            parallelism=pods_per_trial,
            backoff_limit=0,
            wait_until_job_complete=True,
            **kwargs,
        )
        self.pods_per_trial = pods_per_trial
        self.startup_seconds = startup_seconds
        self.attended_seconds = attended_seconds

    @property
    def pod(self) -> k8s.V1Pod | None:
        """The first pod, which the trigger watches."""
        return self.pods[0] if self.pods else None

    @pod.setter
    def pod(self, pod: k8s.V1Pod | None) -> None:
        self.pods = [] if pod is None else [pod]

    def execute(self, context: Context) -> Any:
        """Start the job and hand over to the triggerer, unless the step's result is already there."""
        if self.is_done(context):
            return
        with self._asking():
            self._start(context)

    def _start(self, context: Context) -> None:
        self._clear_away(context)
        self.name = self._set_name(self.name)
        self.job = self.job_request_obj = self.build_job_request_obj(context)
        name = self.job.metadata.name
        try:
            # Made or not is not known of one whose answer is lost, nor of one that `on_kill` came in between.
            self.create_job(self.job)
            self._stop_if_killed()
            context["ti"].xcom_push(key="job_name", value=name)
            self.pod = self._first_pod(name)
        except BaseException:
            self._delete(name)
            raise
        if self._attend(name):
            self._resume(context, name, {"status": "success"})
            return
        self.trigger_kwargs = {"job": name, "deferred": 1}
        self.invoke_defer_method(context=context)

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """Deal with the end of the first pod, or with what became of watching it."""
        self._allow_for(event.get("waited_seconds"))
        with told_in_one_line(self.arguments[0]):
            self._resume(context, event["job"], event)

    def _resume(self, context: Context, name: str, event: dict[str, Any]) -> None:
        self.job = k8s.V1Job(metadata=k8s.V1ObjectMeta(name=name, namespace=self.namespace))
        seen = self._pods_of(name)
        leaving = [pod for pod in seen if is_being_deleted(pod)]
        self._write_last_logs(leaving)
        watched = event["status"] not in ("timeout", "error")
        job = self._ended(name, None if watched or leaving else 0)
        pods = self._pods_of(name)
        running = job is not None and not self.hook.is_job_complete(job)
        watches = 0 if self.was_calm(event) else event.get("deferred", 0)
        if event["status"] == "error" and running and pods and watches <= self.MAX_REDEFER_ATTEMPTS:
            self.log.warning("watching pod %s failed (%s); the job goes on", event["name"], refusal(event["message"]))
            self.pods = pods
            self.trigger_kwargs = {"job": name, "deferred": watches + 1}
            self.invoke_defer_method(context=context)
            return
        there, written = ({pod.metadata.name for pod in some} for some in (pods, leaving))
        # Of one that is gone by now, what was seen of it counts, if that was its end or what brought it about.
        pods += [pod for pod in seen if (has_ended(pod) or disruption(pod)) and pod.metadata.name not in there]
        try:
            self._write_all_logs([pod for pod in pods if pod.metadata.name not in written])
            if job is None or not self.hook.is_job_successful(job):
                self._fail(name, job, pods, "" if watched else f"watching it ended: {refusal(event['message'])}")
        finally:
            self._delete(name)

    def build_job_request_obj(self, context: Context | None = None) -> k8s.V1Job:
        """Return the job, whose pods know how many they are and where the first one is."""
        self._leave_out_gpu()
        job = super().build_job_request_obj(context)
        job.metadata.labels = {**job.metadata.labels, **self._get_ti_pod_labels(context)}
        # A job's time counts from its creation, a pod's from its start.
        job.spec.active_deadline_seconds = int(self.startup_seconds + self.active_deadline_seconds + PATIENCE_SECONDS)
        # It is deleted when its task ends; of a task that is marked or cleared while deferred, only the first pod is.
        job.spec.ttl_seconds_after_finished = _KEPT_SECONDS
        job.spec.template.metadata.name = None
        pod = job.spec.template.spec
        pod.subdomain = SERVICE
        port = FIRST_PORT + max(0, context["ti"].map_index if context else 0)
        pod.containers[0].env = [
            *pod.containers[0].env,
            k8s.V1EnvVar(name="MLPLATFORM_PODS_PER_TRIAL", value=str(self.pods_per_trial)),
            k8s.V1EnvVar(name="MLPLATFORM_RENDEZVOUS", value=f"{job.metadata.name}-0.{SERVICE}:{port}"),
        ]
        return job

    def on_kill(self) -> None:
        """Delete the job and its pods, which have their grace period."""
        self._killed = True
        if self.job is not None:
            self._delete(self.job.metadata.name)

    # -- the job

    def _clear_away(self, context: Context) -> None:
        """Delete the jobs that earlier tries of this task left, and wait until their pods have ended."""
        selector = self._labels_of_all_tries(context)
        deadline = time.monotonic() + (self.termination_grace_period or 30) + PATIENCE_SECONDS
        asked: set[str] = set()
        while left := self._list_jobs(selector):
            for job in left:
                if job.metadata.uid not in asked:
                    self.log.info("deleting job %s, which an earlier try left", job.metadata.name)
                    self._delete(job.metadata.name)
                    asked.add(job.metadata.uid)
            if time.monotonic() > deadline:
                break
            time.sleep(min(self.poll_interval, 1))
        for job in left:
            if job.metadata.deletion_timestamp is None:
                raise AirflowException(f"job {job.metadata.name} of an earlier try could not be deleted")
        if left:  # its pods have had their time
            self._leave_behind(self._leaving_pods(context))
        else:
            self._await_earlier_pods(context)

    def _first_pod(self, name: str) -> k8s.V1Pod:
        """Return the first pod, when all are made.

        Where there is no room for all of them the job is given up. It would make the others as soon as there is, but
        that may be never: two jobs of which each has half of its pods hold one another's room.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self._stop_if_killed()
            pods = self._pods_of(name)
            first = next((pod for pod in pods if (pod.metadata.labels or {}).get(_INDEX) == "0"), None)
            if first is not None and (len(pods) >= self.pods_per_trial or has_ended(first)):
                return first
            events = self._events_about(name, "Job")
            refused = not_made(events)
            if refused is not None and used_up(refused) and made(events, pods) < self.pods_per_trial:
                raise failure_of(refused, self.arguments[0], pods=self.pods_per_trial)
            if time.monotonic() > deadline:
                break
            time.sleep(min(self.poll_interval, 1))
        if first is not None:  # why there are not more is told when it ends
            return first
        got = f"job {name} got {self._how_many(made(events, pods))} within {PATIENCE_SECONDS:g} s: "
        if refused is not None:
            raise failure_of(refused, self.arguments[0], before=got)
        told = next((event.message for event in reversed(events) if event.type == "Warning"), "nobody says why")
        raise AirflowException(got + told)

    def _how_many(self, got: int) -> str:
        return f"{got} of {self.pods_per_trial} pods" if got else "no pods"

    def _attend(self, name: str) -> bool:
        """Stay with a new job for a while, see `StepPodOperator`; tell whether it is over, or about to be."""
        deadline = time.monotonic() + self.attended_seconds
        while time.monotonic() < deadline:
            job = self._ended(name, 0)
            if job is None or self.hook.is_job_complete(job) or any(map(is_being_deleted, self._pods_of(name))):
                return True
            time.sleep(min(self.poll_interval, 1))
        return False

    def _ended(self, name: str, seconds: float | None = None) -> k8s.V1Job | None:
        """Return a job once it has ended, or after some time as it is then; None if it is gone."""
        patience = (self.termination_grace_period or 30) + PATIENCE_SECONDS if seconds is None else seconds
        deadline = time.monotonic() + patience
        while True:
            try:
                job = self.hook.get_job_status(name, self.namespace)
            except ApiException as error:
                if error.status == 404:
                    return None
                raise
            if self.hook.is_job_complete(job) or time.monotonic() >= deadline:
                return job
            time.sleep(min(self.poll_interval, 1))

    def _pods_of(self, name: str) -> list[k8s.V1Pod]:
        """Return a job's pods, the first one first."""
        pods = self._list_pods(self.namespace, f"batch.kubernetes.io/job-name={name}")
        return sorted(pods, key=lambda pod: int((pod.metadata.labels or {}).get(_INDEX, 0)))

    @generic_api_retry
    def _list_jobs(self, selector: str) -> list[k8s.V1Job]:
        return list(self.job_client.list_namespaced_job(self.namespace, label_selector=selector).items)

    def _delete(self, name: str) -> None:
        try:
            self._ask_to_delete(name)
        except (ApiException, HTTPError) as error:
            if getattr(error, "status", None) != 404:
                self.log.warning("job %s could not be deleted: %s", name, refusal(error))

    @generic_api_retry
    def _ask_to_delete(self, name: str) -> None:
        # In the foreground: the job stays until its pods have ended, so that another try knows of all of them.
        self.job_client.delete_namespaced_job(name, self.namespace, propagation_policy="Foreground")

    # -- its end

    def _write_all_logs(self, pods: Sequence[k8s.V1Pod]) -> None:
        for pod in pods:
            self.log.info("log of pod %s:", pod.metadata.name)
            try:
                self._write_logs(pod)
            except (HTTPError, ApiException) as error:
                self.log.warning("the log of pod %s could not be read: %s", pod.metadata.name, refusal(error))

    def _write_last_logs(self, pods: Sequence[k8s.V1Pod]) -> None:
        """Write the logs of pods that are being deleted, to their ends: all at once, as each goes with its pod."""
        with ThreadPoolExecutor(max(1, len(pods))) as readers:
            for pod, lines in zip(pods, readers.map(self._last_log, pods), strict=True):
                self.log.info("log of pod %s:", pod.metadata.name)
                for line in lines:
                    self.log.info("[%s] logs: %s", self.base_container_name, line)

    def _last_log(self, pod: k8s.V1Pod) -> list[str]:
        lines: list[str] = []
        about = {"name": pod.metadata.name, "namespace": pod.metadata.namespace, "container": self.base_container_name}
        try:
            # A silent node says nothing more, not even that it is gone.
            limits = {"follow": True, "_preload_content": False, "_request_timeout": patience_with([pod])}
            for line in self.client.read_namespaced_pod_log(**about, **limits):
                lines.append(line.decode("utf-8", errors="backslashreplace").rstrip("\n"))
        except (HTTPError, ApiException) as error:
            self.log.warning("the log of pod %s could not be read to its end: %s", pod.metadata.name, refusal(error))
        return lines

    def _fail(self, name: str, job: k8s.V1Job | None, pods: Sequence[k8s.V1Pod], given_up: str = "") -> None:
        container = self.base_container_name
        for pod in pods:
            if exit_code(pod, container) == EXIT_NON_RETRYABLE:
                raise AirflowFailException(self._own_words() or explain(pod, container))
        events = self._events_about(name, "Job")
        end = first_end(pods, events, container, self.outlook, self._events_about)
        if (end is None or end.from_outside) and self._is_done_after_all(end.message if end else f"job {name} failed"):
            return
        refused, got = not_made(events), made(events, pods, job)
        if refused is not None and got < self.pods_per_trial:
            # Those that were made waited for the others, and fail in their own way.
            so = f"; {end.message}" if end else ""
            before = f"job {name} got {self._how_many(got)}: "
            raise failure_of(f"{refused}{so}", self.arguments[0], before=before, pods=self.pods_per_trial)
        if end is not None:
            if end.pod is not None:
                self._read_pod_events(end.pod, reraise=False)
            late = not_started(events, self._events_about)
            raise AirflowException(f"{end.message}; {late}" if late else end.message)
        for pod in pods:
            if pod.status.phase == "Pending" and not is_being_deleted(pod):
                self._read_pod_events(pod, reraise=False)
                raise AirflowException(explain(pod, container))
        raise AirflowException(explain_job(name, job, given_up))


def training_operator(dataset: Dataset, run_key: str) -> tuple[type[StepOperator], dict[str, Any]]:
    """Return the operator of the training step and its arguments: one pod a task, or a job of several.

    Args:
        dataset: that is trained for.
        run_key: template of the run key, for labels.
    """
    options, settings = step_options(dataset, "train", run_key), dataset.settings
    pods = settings.training.pods_per_trial
    if pods == 1:
        return StepPodOperator, options
    labels = {**options["labels"], "ml-platform/distributed": "true"}
    startup = 2 * settings.orchestration.startup_timeout_seconds
    return StepJobOperator, {**options, "labels": labels, "pods_per_trial": pods, "startup_seconds": startup}
