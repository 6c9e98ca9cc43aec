from __future__ import annotations

import importlib
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import Run

from trainer import system_metrics, tracking
from trainer.tracking import METRICS_PER_REQUEST, MetricLog, trial_run


class Server:
    """MLflow's client, as far as metrics need it."""

    def __init__(self) -> None:
        self.down = False
        self.delay = 0.0
        self.batches: list[list[tuple[str, float, int]]] = []

    def log_batch(self, run_id: str, metrics: list[Any]) -> None:
        time.sleep(self.delay)
        if self.down:
            raise ConnectionError("no answer")
        self.batches.append([(metric.key, metric.value, metric.step) for metric in metrics])


def test_metrics_are_taken_at_once_and_sent_in_whole_steps() -> None:
    tracking.import_mlflow()  # as whoever has a run has done
    importlib.import_module("mlflow.entities")
    server = Server()
    server.delay = 0.2
    log = MetricLog(server, "r", every=3600)
    started = time.monotonic()
    for step in range(1500):
        log.add(step, {"a": 1.0, "b": 2.0, "c": float("nan"), "d": float("inf")})
    log.add(1500, {"c": float("nan")})
    assert time.monotonic() - started < 0.5
    assert server.batches == []
    log.flush()
    log.close()
    assert [len(batch) for batch in server.batches] == [METRICS_PER_REQUEST] * 3
    sent = [metric for batch in server.batches for metric in batch]
    assert sent == [(name, value, step) for step in range(1500) for name, value in (("a", 1.0), ("b", 2.0))]
    log.flush()
    assert len(server.batches) == 3


def test_a_server_that_is_down_for_a_while_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.down = True
    log = MetricLog(server, "r", every=0.01)
    log.add(0, {"a": 1.0})
    deadline = time.monotonic() + 10
    while "metrics wait: no answer" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(ConnectionError):
        log.flush()
    log.add(1, {"a": 2.0})
    server.down = False
    log.flush()
    log.close()
    assert [metric for batch in server.batches for metric in batch] == [("a", 1.0, 0), ("a", 2.0, 1)]


def test_two_that_flush_at_once_send_each_metric_once() -> None:
    server = Server()
    server.delay = 0.05
    log = MetricLog(server, "r", every=3600)
    for step in range(100):
        log.add(step, {"a": float(step)})
    threads = [threading.Thread(target=log.flush) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert [metric[2] for batch in server.batches for metric in batch] == list(range(100))


def test_a_run_is_continued_only_with_its_own_parameters(tracked: Run) -> None:
    tags = {"run_key": tracked.name, "trial": "0"}

    def attempt(depth: int) -> tuple[str, set[int]]:
        with trial_run(tracked.config(), "name", tags, {"max_depth": depth}) as run:
            run.log_params({"max_depth": depth})
            known = run.logged_steps("validation/roc_auc")
            run.metrics.add(3, {"validation/roc_auc": 0.5})
            run.end("KILLED", {"reason": "x" * 9000})
        return run.run_id, known

    first, known = attempt(3)
    assert known == set()
    second, known = attempt(3)
    assert (second, known) == (first, {3})
    other, known = attempt(4)
    assert other != first
    assert known == set()
    client = tracking.connect(tracked.tracking_uri)
    assert client.get_run(first).info.lifecycle_stage == "deleted"


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("boom"), "FAILED"), (SystemExit(143), "KILLED"), (KeyboardInterrupt(), "KILLED")],
)
def test_a_run_that_is_left_is_closed_as_what_became_of_it(tracked: Run, error: BaseException, status: str) -> None:
    tags = {"run_key": tracked.name, "trial": "0"}
    seen: list[str] = []

    def work() -> None:
        with trial_run(tracked.config(), "name", tags, {}) as run:
            seen.append(run.run_id)
            run.metrics.add(0, {"validation/roc_auc": 0.5})
            raise error

    with pytest.raises(type(error)):
        work()
    found = tracking.connect(tracked.tracking_uri).get_run(seen[0])
    assert found.info.status == status
    assert found.data.metrics == {"validation/roc_auc": 0.5}  # what waited was sent


# --- What is used -----------------------------------------------------------------------------


def test_what_a_container_uses_is_read_from_its_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINER_THREADS", "2")
    (tmp_path / "self/net").mkdir(parents=True)
    heading = "Inter-|   Receive\n face |bytes\n"

    def show(cpu_seconds: float, received: int) -> None:
        (tmp_path / "cpu.stat").write_text(f"usage_usec {int(cpu_seconds * 1e6)}\nuser_usec 0\n")
        (tmp_path / "memory.current").write_text(f"{512 * 2**20}\n")
        (tmp_path / "memory.max").write_text(f"{1024 * 2**20}\n")
        (tmp_path / "self/net/dev").write_text(
            f"{heading}    lo: 99999999 0 0 0 0 0 0 0 99999999 0 0 0 0 0 0 0\n"
            f"  eth0: {received} 0 0 0 0 0 0 0 {2 * received} 0 0 0 0 0 0 0\n"
        )

    now = [50.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    show(10, 2**20)
    usage = system_metrics.Usage(cgroup=tmp_path, proc=tmp_path)
    show(15, 4 * 2**20)
    now[0] += 10
    found = usage.sample()
    assert found["system/cpu_utilization_percentage"] == pytest.approx(25)  # half a core of two
    assert found["system/system_memory_usage_megabytes"] == pytest.approx(512)
    assert found["system/system_memory_usage_percentage"] == pytest.approx(50)
    assert found["system/network_receive_megabytes"] == pytest.approx(3)
    assert found["system/network_transmit_megabytes"] == pytest.approx(6)
    assert 0 < found["system/disk_usage_percentage"] <= 100


def test_without_a_control_group_the_process_is_measured(tmp_path: Path) -> None:
    usage = system_metrics.Usage(cgroup=tmp_path / "none")
    assert usage.sample()["system/system_memory_usage_megabytes"] > 1
    assert "system/system_memory_usage_percentage" not in usage.sample()
    bare = system_metrics.Usage(cgroup=tmp_path / "none", proc=tmp_path / "none").sample()
    assert set(bare) == {
        "system/cpu_utilization_percentage", "system/disk_usage_megabytes", "system/disk_usage_percentage",
    }  # fmt: skip


def test_each_gpu_is_measured_as_far_as_it_tells(tmp_path: Path) -> None:
    class Secretive(Exception):
        pass

    def rates(device: int) -> Any:
        if device == 1:
            raise Secretive("not supported")
        return SimpleNamespace(gpu=80)

    driver = SimpleNamespace(
        NVMLError=Secretive,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=lambda device: SimpleNamespace(used=2**30, total=4 * 2**30),
        nvmlDeviceGetUtilizationRates=rates,
        nvmlDeviceGetPowerUsage=lambda device: 70_000,
    )
    found = system_metrics.Usage(cgroup=tmp_path, proc=tmp_path, gpus=driver).sample()
    gpus = {name.removeprefix("system/gpu_"): value for name, value in found.items() if "gpu" in name}
    assert gpus == {
        "0_utilization_percentage": 80.0,
        "0_memory_usage_megabytes": 1024.0,
        "0_memory_usage_percentage": 25.0,
        "0_power_usage_watts": 70.0,
    }


def test_a_short_training_has_one_sample() -> None:
    taken: list[tuple[int, dict[str, float]]] = []
    metrics = SimpleNamespace(add=lambda step, values, at: taken.append((step, values)))
    run: Any = SimpleNamespace(metrics=metrics, start_time_ms=int(time.time() * 1000) - 7000)
    with system_metrics.sampling([run], every=3600):
        pass
    ((step, values),) = taken
    assert step == 7
    assert "system/cpu_utilization_percentage" in values


# --- Stop -------------------------------------------------------------------------------------


def test_a_forked_worker_that_is_ended_does_not_end_its_parent() -> None:
    code = """
import os, signal, time
from trainer import shutdown
shutdown.install()
child = os.fork()
if child == 0:
    time.sleep(60)
time.sleep(0.2)
os.kill(child, signal.SIGTERM)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
time.sleep(0.5)
print(shutdown.requested())
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stdout.split()) == (0, ["-15", "False"]), answer.stderr


@pytest.mark.parametrize(
    "complaint",
    [
        '(psycopg2.errors.UniqueViolation) duplicate key value violates unique constraint "dataset_pk"',
        "(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.experiment_id, datasets.name, datasets.digest",
    ],
)
def test_trials_that_make_the_same_dataset_at_once_all_have_it(complaint: str) -> None:
    exceptions = importlib.import_module("mlflow.exceptions")
    answers = [{"error_code": "BAD_REQUEST", "message": complaint}, None]

    def log_inputs(run_id: str, datasets: list[Any]) -> None:
        if answer := answers.pop(0):
            raise exceptions.RestException(answer)
        assert [dataset.dataset.digest for dataset in datasets] == ["d1"]

    run = SimpleNamespace(client=SimpleNamespace(log_inputs=log_inputs), run_id="r")
    given = tracking.Input("iris-training", "d1", ["s3://b/k"], {"length": "double"}, 3, "training")
    tracking.TrialRun.log_inputs(run, [given])
    assert answers == []


def test_another_complaint_about_datasets_is_told() -> None:
    exceptions = importlib.import_module("mlflow.exceptions")
    asked = []

    def log_inputs(run_id: str, datasets: list[Any]) -> None:
        asked.append(run_id)
        raise exceptions.RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "no such run"})

    run = SimpleNamespace(client=SimpleNamespace(log_inputs=log_inputs), run_id="r")
    with pytest.raises(exceptions.MlflowException, match="no such run"):
        tracking.TrialRun.log_inputs(run, [])
    assert asked == ["r"]
