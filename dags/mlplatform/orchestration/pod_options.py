"""What a step's pod may use (resources, nodes, rights, time), from the settings."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.pod_generator import make_safe_label_value
from kubernetes.client import models as k8s
from kubernetes.utils.quantity import parse_quantity

from mlplatform.config.environment import Settings, StepName, StepResources
from mlplatform.config.loading import BUNDLE, Dataset
from mlplatform.steps import STEPS

# The images' own user (see the Dockerfiles), given again so that no image can run as root.
USER_ID = 10001
# Templates: both depend on the run's family and device, see `mlplatform.training.placement.of_params`.
_IMAGE_OF_TRAINING = "{{ placement(params).image }}"
_GPU_FOR_TRAINING = "{{ placement(params).gpu }}"
# Time for Airflow's own work around a pod: pick up, read logs, delete.
_MARGIN = timedelta(minutes=10)


def step_arguments(step: StepName, config: str, input_prefix: str, output: str) -> list[str]:
    """Return a step's command line, as `mlplatform.steps` reads it."""
    return [step, "--config", config, "--input", input_prefix, "--output", output]


def step_options(dataset: Dataset, name: StepName, run_key: str) -> dict[str, Any]:
    """Return a `StepPodOperator`'s arguments for a step, except task id and container arguments.

    Args:
        dataset: whose step it is.
        name: of the step; ``train`` needs the DAG's macro ``placement``, see `mlplatform.training.placement.of_params`.
        run_key: template of the run key, for the pod's labels.
    """
    settings = dataset.settings
    resources = settings.steps[name]
    orchestration, kubernetes = settings.orchestration, settings.kubernetes
    deadline = timedelta(minutes=resources.timeout_minutes)
    startup = orchestration.startup_timeout_seconds
    return {
        "name": f"{dataset.name}-{name}",
        "namespace": kubernetes.training_namespace
        if resources.namespace == "training"
        else kubernetes.deployment_namespace,
        "service_account_name": resources.service_account,
        "automount_service_account_token": False,
        "image": _IMAGE_OF_TRAINING if name == "train" else getattr(settings.images, STEPS[name].package),
        "has_report": STEPS[name].has_report,
        "kubernetes_conn_id": None,
        "in_cluster": False,
        "config_file": str(BUNDLE / kubernetes.kubeconfig),
        "cluster_context": kubernetes.context,
        "labels": {
            "app.kubernetes.io/name": f"mlplatform-{name}",
            "app.kubernetes.io/component": name,
            "app.kubernetes.io/part-of": "ml-platform",
            "app.kubernetes.io/managed-by": "airflow",
            "ml-platform/dataset": dataset.name,
            "ml-platform/owner": make_safe_label_value(dataset.model.owner),
            "ml-platform/step": name,
            "ml-platform/run-key": run_key,
        },
        # A node with a running step on it is no candidate for scaling down.
        "annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"},
        **_placement(settings, resources.node_pool, resources),
        **_without_gpu(settings, name, resources),
        "priority_class_name": resources.priority_class,
        "termination_grace_period": resources.termination_grace_seconds,
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
            "TRAINER_MEMORY_MIB": str(int(parse_quantity(resources.memory) / 2**20)),
            # For the checkpoint of a training that has to go; the rest is for the end of its process.
            **({"TRAINER_GRACE_SECONDS": str(resources.termination_grace_seconds - 5)} if name == "train" else {}),
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
        "retries": resources.retries,
    }


def _placement(settings: Settings, pool_name: str, step: StepResources) -> dict[str, Any]:
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
        "container_resources": container_resources(step),
        "node_selector": pool.node_selector,
        "tolerations": [k8s.V1Toleration(**toleration.model_dump()) for toleration in pool.tolerations],
        "volumes": volumes,
        "volume_mounts": mounts,
    }


def _without_gpu(settings: Settings, name: StepName, step: StepResources) -> dict[str, Any]:
    """Return what a training's pods get where the run uses no GPU; a node with one would only be more expensive."""
    if name != "train" or not step.gpus:
        return {}
    plain = step.model_copy(update={"gpus": 0})
    return {"gpu": _GPU_FOR_TRAINING, "without_gpu": _placement(settings, step.cpu_node_pool or step.node_pool, plain)}


def container_resources(step: StepResources) -> k8s.V1ResourceRequirements:
    """Return what a step's container asks for.

    Memory and GPUs are limited to the request. The CPU is not: idle cores may be used, and a limit only
    throttles.
    """
    gpus = {"nvidia.com/gpu": str(step.gpus)} if step.gpus else {}
    return k8s.V1ResourceRequirements(
        requests={"cpu": step.cpu, "memory": step.memory, **gpus}, limits={"memory": step.memory, **gpus}
    )
