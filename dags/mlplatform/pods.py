"""Container steps as pods on Kubernetes. Imports Airflow and the Kubernetes client.

Everything a pod may use (resources, nodes, rights, time) comes from the settings; the DAG says which step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodPhase
from airflow.sdk import BaseOperatorLink, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from kubernetes.client import models as k8s
from kubernetes.client.exceptions import ApiException
from kubernetes.utils.quantity import parse_quantity
from urllib3.exceptions import HTTPError

from mlplatform import reports, storage
from mlplatform.config import BUNDLE, Settings, Step
from mlplatform.pipeline import RESULTS
from mlplatform.results import StepFailure
from mlplatform.steps import ERROR, EXIT_REFUSED, RESULT

StepName = Literal["validate", "prepare", "train", "evaluate", "deploy", "monitor"]

# The images' own user (see the Dockerfiles), given again so that no image can run as root.
USER_ID = 10001

# Templates: both depend on the run's family and device, see `mlplatform.placement.of_params`.
_IMAGE_OF_TRAINING = "{{ placement(params).image }}"
_GPU_FOR_TRAINING = "{{ placement(params).gpu }}"

# Time for Airflow's own work around a pod: pick up, read logs, delete.
_MARGIN = timedelta(minutes=10)
_MESSAGE_LIMIT = 4000


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
        address = reports.page(uri)
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
        result = storage.try_read_document(storage.join(output, RESULT), RESULTS[self.arguments[0]])
        if result is not None:
            return reports.report_of(result)
        usual = storage.join(output, reports.NAME)
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
            found = storage.try_read_document(uri, RESULTS[self.arguments[0]])
        except storage.StorageError as error:
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
            if exit_code(remote_pod, self.base_container_name) == EXIT_REFUSED:
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


def exit_code(pod: k8s.V1Pod | None, container: str) -> int | None:
    """Return a container's exit code, None if it has not ended."""
    state = terminated(pod, container)
    return state.exit_code if state else None


def explain(pod: k8s.V1Pod | None, container: str) -> str:
    """Say in one line why a pod failed, and what to look at."""
    if pod is None or pod.status is None:
        return "the pod is gone and nobody knows how it ended"
    name, status = pod.metadata.name, pod.status
    state = terminated(pod, container)
    if status.reason == "DeadlineExceeded":
        minutes = (pod.spec.active_deadline_seconds or 0) / 60
        return f"pod {name} ran longer than {minutes:g} minutes and was stopped (timeout_minutes of the step)"
    if status.reason == "Evicted":
        return f"pod {name} was evicted: {status.message or 'no reason given'}"
    if state is not None and state.reason == "OOMKilled":
        base = next(item for item in pod.spec.containers if item.name == container)
        memory = ((base.resources and base.resources.limits) or {}).get("memory", "its limit")
        return f"pod {name} ran out of memory ({memory}; memory of the step)"
    if state is not None:
        last = (state.message or status.message or state.reason or "no message").strip()[-_MESSAGE_LIMIT:]
        return f"pod {name} failed with exit code {state.exit_code}: {last}"
    waiting = next((s.state.waiting for s in status.container_statuses or [] if s.name == container and s.state), None)
    if waiting is not None:
        return f"pod {name} never started: {waiting.reason}: {waiting.message or 'no message'}"
    unscheduled = next((c for c in status.conditions or [] if c.type == "PodScheduled" and c.status == "False"), None)
    if unscheduled is not None:
        return f"pod {name} found no node: {unscheduled.message or unscheduled.reason}"
    detail = ": ".join(part for part in (status.reason, status.message) if part)
    return f"pod {name} did not succeed; it is {status.phase}{': ' + detail if detail else ''}"


def terminated(pod: k8s.V1Pod | None, container: str) -> k8s.V1ContainerStateTerminated | None:
    """Return how a container ended, None if it has not."""
    statuses = (pod.status.container_statuses if pod is not None and pod.status else None) or []
    return next((s.state.terminated for s in statuses if s.name == container and s.state), None)


def step_arguments(step: StepName, config: str, input_prefix: str, output: str) -> list[str]:
    """Return a step's command line, as `mlplatform.steps` reads it."""
    return [step, "--config", config, "--input", input_prefix, "--output", output]


def step_options(settings: Settings, name: StepName, run_key: str) -> dict[str, Any]:
    """Return a `StepPodOperator`'s arguments for a step, except task id and container arguments.

    Args:
        settings: of the environment.
        name: of the step; ``train`` needs the macro ``placement`` of the DAG, see `mlplatform.placement.of_params`.
        run_key: template of the run key, for the pod's labels.
    """
    step: Step = getattr(settings.steps, "validate_" if name == "validate" else name)
    orchestration, kubernetes = settings.orchestration, settings.kubernetes
    deadline = timedelta(minutes=step.timeout_minutes)
    startup = orchestration.startup_timeout_seconds
    return {
        "name": f"{{{{ params.dataset }}}}-{name}",
        "namespace": kubernetes.training_namespace if step.namespace == "training" else kubernetes.deployment_namespace,
        "service_account_name": step.service_account,
        "automount_service_account_token": False,
        "image": {"train": _IMAGE_OF_TRAINING, "deploy": settings.images.deployer}.get(name, settings.images.trainer),
        "has_report": name in ("validate", "evaluate", "monitor"),
        "kubernetes_conn_id": None,
        "in_cluster": False,
        "config_file": str(BUNDLE / kubernetes.kubeconfig),
        "cluster_context": kubernetes.context,
        "labels": {
            "app.kubernetes.io/name": f"mlplatform-{name}",
            "app.kubernetes.io/component": name,
            "app.kubernetes.io/part-of": "ml-platform",
            "app.kubernetes.io/managed-by": "airflow",
            "ml-platform/dataset": "{{ params.dataset }}",
            "ml-platform/step": name,
            "ml-platform/run-key": run_key,
        },
        # A node with a running step on it is no candidate for scaling down.
        "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
        **_placement(settings, step.node_pool, step),
        **_without_gpu(settings, name, step),
        "priority_class_name": step.priority_class,
        "termination_grace_period": step.termination_grace_seconds,
        "security_context": k8s.V1PodSecurityContext(
            run_as_non_root=True,
            run_as_user=USER_ID,
            run_as_group=USER_ID,
            fs_group=USER_ID,
            seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
        ),
        "container_security_context": k8s.V1SecurityContext(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=k8s.V1Capabilities(drop=["ALL"]),
        ),
        "env_vars": {
            # The root file system is read-only; libraries that insist on a home get the scratch volume.
            "TMPDIR": "/tmp",
            "HOME": "/tmp",
            # Without a control group, as on one machine, a step would take all memory there is for its own.
            "TRAINER_MEMORY_MIB": str(int(parse_quantity(step.memory) / 2**20)),
            # For the checkpoint of a training that has to go; the rest is for the end of its process.
            **({"TRAINER_GRACE_SECONDS": str(step.termination_grace_seconds - 5)} if name == "train" else {}),
        },
        "termination_message_policy": "FallbackToLogsOnError",
        "active_deadline_seconds": int(deadline.total_seconds()),
        # Scheduling (a node that has to be started first) and starting (pulling the image) each have their limit.
        "execution_timeout": timedelta(seconds=2 * startup) + deadline + _MARGIN,
        "startup_timeout_seconds": startup,
        "schedule_timeout_seconds": startup,
        "startup_check_interval_seconds": max(1, min(10, math.ceil(orchestration.poll_seconds))),
        "poll_interval": orchestration.poll_seconds,
        "attended_seconds": orchestration.attended_seconds,
        "deferrable": True,
        "do_xcom_push": False,
        "get_logs": True,
        "log_events_on_failure": True,
        "log_pod_spec_on_failure": False,
        "on_finish_action": "delete_pod",
        "retries": step.retries,
    }


def _placement(settings: Settings, pool_name: str, step: Step) -> dict[str, Any]:
    """Return where a step's pods run and what they get there."""
    pool = settings.kubernetes.node_pools[pool_name]
    volumes = [k8s.V1Volume(name="tmp", empty_dir=k8s.V1EmptyDirVolumeSource())]
    mounts = [k8s.V1VolumeMount(name="tmp", mount_path="/tmp")]
    if step.gpus > 1:
        # Processes that train together hand each other their data in shared memory, of which a container has 64 MiB.
        # It counts as the container's memory, and so ends at its limit.
        volumes.append(k8s.V1Volume(name="shm", empty_dir=k8s.V1EmptyDirVolumeSource(medium="Memory")))
        mounts.append(k8s.V1VolumeMount(name="shm", mount_path="/dev/shm"))
    return {
        "container_resources": resources(step),
        "node_selector": pool.node_selector,
        "tolerations": [k8s.V1Toleration(**toleration.model_dump()) for toleration in pool.tolerations],
        "volumes": volumes,
        "volume_mounts": mounts,
    }


def _without_gpu(settings: Settings, name: StepName, step: Step) -> dict[str, Any]:
    """Return what a training's pods get where the run uses no GPU; a node with one would only be more expensive."""
    if name != "train" or not step.gpus:
        return {}
    plain = step.model_copy(update={"gpus": 0})
    return {"gpu": _GPU_FOR_TRAINING, "without_gpu": _placement(settings, step.cpu_node_pool or step.node_pool, plain)}


def resources(step: Step) -> k8s.V1ResourceRequirements:
    """Return what a step's container asks for.

    Memory and GPUs are limited to the request. The CPU is not: idle cores may be used, and a limit only
    throttles.
    """
    gpus = {"nvidia.com/gpu": str(step.gpus)} if step.gpus else {}
    return k8s.V1ResourceRequirements(
        requests={"cpu": step.cpu, "memory": step.memory, **gpus}, limits={"memory": step.memory, **gpus}
    )
