"""Step train with a trial in two pods, as an indexed Job has them; the pods are of the image with PyTorch."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from helpers import ENVS, Run, free_port

from mlplatform.documents.results import TrainResult
from mlplatform.documents.run import Trial
from mlplatform.storage import list_objects, read_document
from trainer import tracking

PYTHON = ENVS / "trainer-cuda" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason=f"no PyTorch: {PYTHON} is not there (`make setup`)")

Pods = list[subprocess.Popen[str]]


def start(run: Run, output: str = "train") -> Pods:
    run.write()
    together = {
        "MLPLATFORM_PODS_PER_TRIAL": "2",
        "MLPLATFORM_RENDEZVOUS": f"127.0.0.1:{free_port()}",
        "TRAINER_THREADS": "1",
    }
    return [
        subprocess.Popen(
            [PYTHON, "-m", "trainer", *run.arguments("train", output)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **together, "JOB_COMPLETION_INDEX": str(index)},
        )
        for index in range(2)
    ]


def end(pods: Pods, code: int) -> list[str]:
    """Wait for the pods and return what they printed."""
    try:
        printed = [pod.communicate(timeout=180)[0] for pod in pods]
    finally:
        for pod in pods:
            pod.kill()
    assert [pod.returncode for pod in pods] == [code, code], "\n---\n".join(printed)
    return printed


def result(run: Run, output: str = "train") -> TrainResult:
    return read_document(f"{run.prefix}/{output}/result.json", TrainResult)


def states(run: Run) -> list[str]:
    listed = list_objects(f"{run.prefix}/train/checkpoints/")
    return [str(entry["Key"]) for entry in listed if str(entry["Key"]).endswith(".tar")]


@pytest.fixture
def networks(prepared: Run) -> Run:
    prepared.family = "pytorch"
    prepared.model["families"]["pytorch"] = {}
    return prepared


def test_two_pods_train_trials_and_one_of_them_reports(networks: Run) -> None:
    small = {"epochs": 2, "batch_size": 64, "width": 16}
    wrong = {**small, "width": 0}
    networks.trials = [Trial(index=index, params=params) for index, params in enumerate([small, wrong, small])]  # type: ignore[arg-type]
    leader, follower = end(start(networks), 0)
    assert [trial.status for trial in result(networks).trials] == ["succeeded", "failed", "succeeded"]
    assert "result in" in leader
    assert "result in" not in follower
    client = tracking.connect(networks.tracking_uri)
    experiment = client.get_experiment_by_name(networks.model["name"]).experiment_id
    assert len(client.search_runs([experiment])) == 3


def test_a_trial_in_two_pods_of_which_one_has_to_go_is_gone_on_with(networks: Run) -> None:
    networks.trials = [Trial(index=0, params={"epochs": 40, "patience": 40, "batch_size": 16, "width": 32})]
    end(start(networks, "undisturbed"), 0)
    networks.checkpoint_seconds = 0.2
    pods = start(networks)
    deadline = time.monotonic() + 120
    while not states(networks):
        assert pods[0].poll() is None, pods[0].communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pods[1].send_signal(signal.SIGTERM)  # not the one that leads, which has to save nevertheless
    assert "another attempt goes on from there" in end(pods, 128 + signal.SIGTERM)[0]
    assert "goes on after step" in end(start(networks), 0)[0]
    digests = [only.model_digest for name in ("undisturbed", "train") for only in result(networks, name).trials]
    assert digests[0] == digests[1]
    assert states(networks) == []
