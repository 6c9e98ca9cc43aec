"""What every step promises whoever starts it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from helpers import Run

from mlplatform import steps, storage
from trainer import prepare

STEPS = [name for name, step in steps.STEPS.items() if step.package == "trainer"]


def trainer(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "trainer", *arguments], capture_output=True, text=True, timeout=120)


def test_a_step_as_a_process_says_what_it_did_and_a_second_time_that_there_is_nothing_to_do(run: Run) -> None:
    run.land_good()
    run.write()
    first = trainer(*run.arguments("validate"))
    assert first.returncode == 0, first.stderr
    assert f"result in {run.prefix}/validate/result.json" in first.stdout
    before = storage.read_bytes(f"{run.prefix}/validate/result.json")
    second = trainer(*run.arguments("validate"))
    assert second.returncode == 0
    assert "nothing to do" in second.stdout
    assert storage.read_bytes(f"{run.prefix}/validate/result.json") == before


def test_a_refused_step_exits_64_with_the_reason_last_on_stderr(run: Run) -> None:
    run.land("parcels", b"")
    run.write()
    ended = trainer(*run.arguments("validate"))
    assert ended.returncode == 64
    failure = run.failure("validate")
    assert failure is not None
    assert (failure.step, failure.kind) == ("validate", "bad-input")
    assert ended.stderr.splitlines()[-1].endswith(failure.message.splitlines()[-1])


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["validate"],
        ["validate", "--config", "s3://data/c", "--input", "s3://data/i"],
        ["validate", "--config", "c.json", "--input", "s3://data/i", "--output", "s3://data/o"],
        ["validate", "--config", "s3://data/c", "--input", "s3://data/i", "--output", "s3://data/o", "--fast"],
    ],
)
def test_bad_arguments_are_not_tried_again(arguments: list[str]) -> None:
    assert steps.main("trainer", arguments) == 64


def test_help_is_no_failure() -> None:
    answer = trainer("--help")
    assert answer.returncode == 0
    assert all(step in answer.stdout for step in STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_a_missing_configuration_is_refused(run: Run, step: str) -> None:
    assert steps.main("trainer", run.arguments(step)) == 64
    failure = run.failure(step)
    assert failure is not None
    assert (failure.kind, failure.step) == ("bad-config", step)
    assert f"{run.prefix}/config.json" in failure.message


@pytest.mark.parametrize("step", STEPS)
def test_a_malformed_configuration_is_refused(run: Run, step: str) -> None:
    run.write()
    storage.write_bytes(f"{run.prefix}/config.json", b'{"run_key": 3}')
    assert steps.main("trainer", run.arguments(step)) == 64


@pytest.mark.parametrize("step", ["validate", "prepare"])
def test_missing_inputs_are_refused(run: Run, step: str) -> None:
    run.write()
    storage.client().delete_object(Bucket="data", Key=f"runs/{run.name}/inputs.json")
    assert steps.main("trainer", run.arguments(step)) == 64
    failure = run.failure(step)
    assert failure is not None
    assert "inputs.json" in failure.message


def test_an_interrupted_step_leaves_no_result_and_is_done_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.land_good()
    upload = storage.upload

    def interrupted(path: object, uri: str) -> str:
        if uri.endswith("validation.parquet"):
            raise ConnectionError("the node went away")
        return upload(path, uri)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(prepare, "upload", interrupted)
        with pytest.raises(ConnectionError):
            run.step("prepare")
    assert storage.try_read_bytes(f"{run.prefix}/prepare/train.parquet") is not None
    assert storage.try_read_bytes(f"{run.prefix}/prepare/result.json") is None
    assert run.failure("prepare") is None
    run.done("prepare")


def test_a_damaged_result_is_replaced(run: Run) -> None:
    run.land_good()
    storage.write_bytes(f"{run.prefix}/validate/result.json", b'{"version": 1, "ste')
    run.done("validate")


OWN_MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"]
ON_A_SMALL_DISK = [
    *(*OWN_MOUNTS, "sh", "-c"),
    'mount -t tmpfs -o size="$0" tmpfs "$TMPDIR" && exec "$@"',
]
"""What runs a command, after the disk's size, with a file system of that size as its folder for scratch files."""


@cache
def small_disks() -> bool:
    """Whether this user may mount file systems in a namespace of its own."""
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(
            [*OWN_MOUNTS, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
        ).returncode
    )


@pytest.mark.parametrize(("step", "size"), [("prepare", "16k"), ("prepare", "48k"), ("train", "24k"), ("train", "48k")])
def test_a_disk_that_is_really_full_is_told_and_the_step_done_again(
    tracked: Run, tmp_path: Path, step: str, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not small_disks():
        pytest.skip("this user may not mount a file system in a namespace of its own")
    tracked.land_good()
    if step == "train":
        tracked.done("prepare")
    tracked.write()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    ended = subprocess.run(
        [*ON_A_SMALL_DISK, size, sys.executable, "-m", "trainer", *tracked.arguments(step)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 1, ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"{step}: the disk is full: "), ended.stderr
    assert last.endswith("give the pod more ephemeral storage")
    assert tracked.failure(step) is None
    assert storage.try_read_bytes(f"{tracked.prefix}/{step}/result.json") is None
    tracked.done(step)
