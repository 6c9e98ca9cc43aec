"""Training by several processes: the same result, one that reports, and no waiting for the dead."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import worker
from helpers import Case, params

from mlplatform.errors import NonRetryableError
from trainer import launch
from trainer.families.pytorch import FAMILY
from trainer.session import NoSession

WORKER = Path(__file__).parent / "worker.py"
LAUNCH = """
import sys
from trainer import launch
sys.exit(launch.run(launch.placement(int(sys.argv[1])), sys.executable, sys.argv[2:]))
"""
SMALL: dict[str, Any] = {"dropout": 0.0, "optimizer": "sgd", "learning_rate": 0.05}

# Each process is a fork of one that has imported torch (which is found by PYTHONPATH, as `worker` would not be).
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "torch.distributed", "trainer.families.pytorch", "mlplatform.config.loading"])


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def training(folder: Path, mode: str, chosen: list[dict[str, Any]], timeout: float = 60) -> Iterator[list[Any]]:
    """Two processes that train together, without an agent: as across pods, where none sees the other's."""
    folder.mkdir(exist_ok=True)
    (folder / "params.json").write_text(json.dumps(chosen))
    environment = {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "MLPLATFORM_PEER_TIMEOUT_SECONDS": str(timeout),
    }
    processes = [
        CONTEXT.Process(target=worker.process, args=(folder, mode, {**environment, "RANK": str(rank)}))
        for rank in range(2)
    ]
    for one in processes:
        one.start()
    try:
        yield processes
    finally:
        for one in processes:
            one.kill()
            one.join()


def codes(processes: list[Any]) -> list[int | None]:
    for one in processes:
        one.join(120)
    return [one.exitcode for one in processes]


def train(folder: Path, mode: str, chosen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with training(folder, mode, chosen) as processes:
        assert codes(processes) == [0, 0], [file.read_text() for file in folder.glob("*.error")]
    return outcomes(folder)


def outcomes(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def alone(kind: Any, chosen: dict[str, Any]) -> Any:
    case = Case(kind, 500)
    return FAMILY.fit(case.task, case.train, case.validation, params(**chosen), NoSession())


def check_equal(kind: str, chosen: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    first, second = found
    assert first["size"] == second["size"] == 2
    assert first["weights"] == second["weights"]  # to the bit: they never drift apart
    for number, one in enumerate(chosen):
        single = alone(kind, one)
        assert len(single.history) == len(first["histories"][number])
        # Sums of float32 are rounded differently; nothing else differs.
        for here, there in zip(single.history, first["histories"][number], strict=True):
            assert there == pytest.approx(here, rel=1e-4)
        assert first["weights"][number] == pytest.approx(single._weights.tolist(), abs=1e-4)


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    # 500 rows in batches of 63: 7 whole ones, which two processes cannot halve, and one of 59.
    chosen = [{**SMALL, "batch_size": 63}, {**SMALL, "batch_size": 63, "momentum": 0.5}, {**SMALL, "width": 24}]
    check_equal("regression", chosen, train(tmp_path, "regression", chosen))


def test_a_remainder_of_one_row_is_trained_by_one_of_them(tmp_path: Path) -> None:
    chosen = [{**SMALL, "batch_size": 499, "epochs": 6}]
    check_equal("binary", chosen, train(tmp_path, "binary", chosen))


def test_a_trial_that_is_pruned_ends_in_all_processes(tmp_path: Path) -> None:
    # The session's own exception where there is one.
    for one, failure in zip(
        train(tmp_path, "prunes", [SMALL, {**SMALL, "momentum": 0.5}]), ("TooExpensive", "Pruned"), strict=True
    ):
        assert one["failures"] == [failure, None]
        assert [len(history) for history in one["histories"]] == [0, 4]


@pytest.mark.parametrize("mode", ["one is told to stop", "waits"])
def test_a_stop_is_saved_and_gone_on_from(mode: str, tmp_path: Path) -> None:
    """Told to only the process that does not report, and to both."""
    with training(tmp_path, mode, [SMALL]) as processes:
        if mode == "waits":
            deadline = time.monotonic() + 60
            while not (tmp_path / "waiting").exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            for one in processes:
                os.kill(one.pid, signal.SIGTERM)
        assert codes(processes) == [143, 143], [file.read_text() for file in tmp_path.glob("*.error")]
    assert all(one["stopped"] == "told to" for one in outcomes(tmp_path))
    resumed, _ = train(tmp_path, "binary", [SMALL])
    whole, _ = train(tmp_path / "whole", "binary", [SMALL])
    assert resumed["weights"] == whole["weights"]
    assert resumed["histories"] == whole["histories"]


@pytest.mark.parametrize("mode", ["dies", "hangs"])
def test_nobody_waits_for_the_dead(mode: str, tmp_path: Path) -> None:
    with training(tmp_path, mode, [SMALL], timeout=3) as processes:
        processes[0].join(60)
        assert processes[0].exitcode == 1
    error = (tmp_path / "0.error").read_text()
    assert "PeerLost: process 0 of 2: another process of this training ended or did not answer in 3 s" in error


# --- Launched by the agent ----------------------------------------------------------------------


def launched(processes: int, program: list[str], **environment: str) -> Any:
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCH, str(processes), *program],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: Any) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=120)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output


def test_a_launched_training_is_that_of_one_process(tmp_path: Path) -> None:
    (tmp_path / "params.json").write_text(json.dumps([SMALL]))
    code, output = finish(launched(2, [str(WORKER), str(tmp_path), "regression"], TRAINER_THREADS="1"))
    assert code == 0, output
    check_equal("regression", [SMALL], outcomes(tmp_path))


def test_the_first_to_fail_ends_the_others_and_its_exit_code_is_the_launchers() -> None:
    program = "import os, sys, time; sys.exit(64) if os.environ['RANK'] == '1' else time.sleep(100)"
    began = time.monotonic()
    code, output = finish(launched(2, ["-c", program]))
    assert code == 64, output
    assert "process 1 ended with 64" in output
    assert time.monotonic() - began < 60


def test_sigterm_reaches_every_process_and_they_have_time_to_save(tmp_path: Path) -> None:
    program = f"""
import os, pathlib, signal, sys, time
folder, rank = pathlib.Path({str(tmp_path)!r}), os.environ["RANK"]
def save(*_):
    time.sleep(1)
    (folder / f"saved{{rank}}").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
(folder / f"ready{{rank}}").touch()
time.sleep(100)
"""
    process = launched(2, ["-c", program])
    deadline = time.monotonic() + 60
    while not all((tmp_path / f"ready{rank}").exists() for rank in range(2)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    code, output = finish(process)
    assert code == 143, output
    assert all((tmp_path / f"saved{rank}").exists() for rank in range(2)), output


def test_two_pods_find_one_another() -> None:
    program = "import os; print([os.environ[n] for n in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'TRAINER_THREADS')])"
    pods = {
        "MLPLATFORM_PODS_PER_TRIAL": "2",
        "MLPLATFORM_RENDEZVOUS": f"127.0.0.1:{free_port()}",
        "OMP_NUM_THREADS": "4",
    }
    # The second is there first.
    both = [launched(2, ["-c", program], **pods, JOB_COMPLETION_INDEX=str(pod)) for pod in (1, 0)]
    for pod, process in zip((1, 0), both, strict=True):
        code, output = finish(process)
        assert code == 0, output
        for local in range(2):
            assert str([str(2 * pod + local), "4", str(local), "2"]) in output


def test_more_processes_than_rows_in_a_batch_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.families.pytorch import family
    from trainer.families.pytorch.peers import Peers

    monkeypatch.setattr(family.peering, "join", lambda device: Peers(0, 4))
    monkeypatch.setattr(Peers, "share", lambda self, value: value)
    with pytest.raises(NonRetryableError, match="batch_size 3: each of the 4 processes needs a row of every batch"):
        alone("binary", {**SMALL, "batch_size": 3})


def test_one_gpu_needs_no_other_process() -> None:
    assert launch.placement(0, {}) is None
    assert launch.placement(1, {"MLPLATFORM_PODS_PER_TRIAL": "1"}) is None
    assert launch.placement(4, {"RANK": "1", "WORLD_SIZE": "4"}) is None  # is one of several already
    assert launch.placement(4, {}) == launch.Placement(1, 0, 4, None)


PODS = {"MLPLATFORM_PODS_PER_TRIAL": "2", "JOB_COMPLETION_INDEX": "1", "MLPLATFORM_RENDEZVOUS": "train-0.train:29400"}


def test_pods_are_numbered_by_kubernetes() -> None:
    assert launch.placement(1, PODS) == launch.Placement(2, 1, 1, "train-0.train:29400")
    assert launch.placement(8, PODS) == launch.Placement(2, 1, 8, "train-0.train:29400")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"MLPLATFORM_PODS_PER_TRIAL": "two"}, "MLPLATFORM_PODS_PER_TRIAL: must be a whole number"),
        ({"MLPLATFORM_PODS_PER_TRIAL": "0"}, "must be at least 1"),
        ({"JOB_COMPLETION_INDEX": "2"}, "2 of 2 pods"),
        ({"JOB_COMPLETION_INDEX": ""}, "JOB_COMPLETION_INDEX: must be a whole number"),
        ({"MLPLATFORM_RENDEZVOUS": "train-0"}, "MLPLATFORM_RENDEZVOUS: 2 pods need host:port"),
    ],
)
def test_pods_that_cannot_find_one_another_are_refused(wrong: dict[str, str], message: str) -> None:
    with pytest.raises(NonRetryableError, match=message):
        launch.placement(1, {**PODS, **wrong})


@pytest.mark.parametrize(
    ("codes", "code"),
    [([1, 64], 64), ([-15, 1], 1), ([-9], 137), ([0, 3], 3), ([], 1)],
)
def test_exit_codes_of_workers_become_one(codes: list[int], code: int) -> None:
    assert launch.exit_code(codes) == code
