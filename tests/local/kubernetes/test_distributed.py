"""The pods of a Job meet: real workers of torch, started as the trainer starts them, over the rendezvous of pod 0."""

from __future__ import annotations

import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

import kubernetes
import pytest

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".local" / "envs" / "trainer-cuda" / "bin" / "python"
IMAGE = "registry/trainer-cuda:test"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="no environment trainer-cuda: run `make setup`")

WORKER = """
import os, sys
from trainer import launch

if "RANK" not in os.environ:
    sys.exit(launch.run(launch.placement(0), sys.executable, [__file__]))
import torch
import torch.distributed as dist

dist.init_process_group("gloo")
total = torch.tensor([launch.rank() + 1.0])
dist.all_reduce(total)
print(f"rank {launch.rank()} of {launch.world_size()}: {total.item():g}", flush=True)
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def image(server: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    program = tmp_path_factory.mktemp("distributed") / "worker.py"
    program.write_text(WORKER)
    source = os.pathsep.join(str(ROOT / part) for part in ("dags", "containers/trainer/src", "containers/serving/src"))
    images = json.loads(server.images.read_text())
    images[IMAGE] = {"entrypoint": [str(PYTHON), str(program)], "env": {"PYTHONPATH": source}}
    server.images.write_text(json.dumps(images))


def run(server: Any) -> tuple[Any, list[Any]]:
    """Run a job of two pods to its end; return it and its pods."""
    batch = kubernetes.client.BatchV1Api(kubernetes.config.new_client_from_config(server.kubeconfig))
    core = kubernetes.client.CoreV1Api(batch.api_client)
    name = f"job-{uuid.uuid4().hex[:8]}"
    port = 30000 + os.getpid() % 2000
    env = {
        "MLPLATFORM_PODS_PER_TRIAL": "2",
        "MLPLATFORM_RENDEZVOUS": f"{name}-0.distributed-training:{port}",
        "TRAINER_THREADS": "1",
    }
    container = {
        "name": "base",
        "image": IMAGE,
        "env": [{"name": key, "value": value} for key, value in env.items()],
    }
    template = {"spec": {"restartPolicy": "Never", "subdomain": "distributed-training", "containers": [container]}}
    spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 0, "template": template}
    batch.create_namespaced_job("ml-training", {"metadata": {"name": name}, "spec": spec})
    deadline = time.monotonic() + 120
    while True:
        job = batch.read_namespaced_job_status(name, "ml-training")
        if {c.type for c in job.status.conditions or []} & {"Complete", "Failed"}:
            break
        assert time.monotonic() < deadline, job.status
        time.sleep(0.1)
    pods = core.list_namespaced_pod("ml-training", label_selector=f"job-name={name}").items
    for pod in pods:
        pod.log = core.read_namespaced_pod_log(pod.metadata.name, "ml-training")
    batch.delete_namespaced_job(name, "ml-training", propagation_policy="Background")
    return job, sorted(pods, key=lambda pod: pod.metadata.name)


@pytest.mark.usefixtures("image")
def test_pods_that_train_together_find_one_another(server: Any) -> None:
    job, pods = run(server)
    logs = "\n".join(pod.log for pod in pods)
    assert job.status.completed_indexes == "0,1", logs
    # Process 0 is pod 0's: it reports and saves.
    assert "rank 0 of 2: 3" in pods[0].log
    assert "rank 1 of 2: 3" in pods[1].log
