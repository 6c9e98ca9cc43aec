from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlplatform import storage
from trainer import checkpoints as module
from trainer.checkpoints import Checkpoints
from trainer.trials import CheckpointSchedule

PREFIX = "s3://data/states/{name}/train/000/checkpoints/003"


@pytest.fixture
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoints:
    return Checkpoints(PREFIX.format(name=request.node.name), "abc123", tmp_path)


def writes(content: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        assert list(folder.iterdir()) == []
        (folder / "weights").write_text(content)
        (folder / "more").mkdir()
        (folder / "more" / "notes").write_text(content * 2)

    return write


def restored(checkpoints: Checkpoints, folder: Path) -> tuple[int | None, str | None]:
    step = checkpoints.restore(folder / "state")
    found = folder / "state" / "weights"
    return step, found.read_text() if found.exists() else None


def names(checkpoints: Checkpoints) -> list[str]:
    listed = storage.list_objects(checkpoints.prefix + "/")
    return sorted(str(entry["Key"]).rsplit("/", 1)[-1] for entry in listed)


def spoil(checkpoints: Checkpoints, name: str, content: bytes = b"rubbish") -> None:
    storage.write_bytes(f"{checkpoints.prefix}/{name}", content)


def test_the_last_state_comes_back_and_the_one_before_is_kept(checkpoints: Checkpoints, tmp_path: Path) -> None:
    assert restored(checkpoints, tmp_path) == (None, None)
    assert not (tmp_path / "state").exists()
    for step in (3, 12, 100):
        checkpoints.save(step, writes(f"after {step}"))
    assert [name.split("-")[0] for name in names(checkpoints)] == ["00000012", "00000100", "latest.json"]
    assert restored(checkpoints, tmp_path) == (100, "after 100")
    assert (tmp_path / "state" / "more" / "notes").read_text() == "after 100after 100"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]  # nothing is left on the disk
    checkpoints.remove()
    assert names(checkpoints) == []


@pytest.mark.parametrize("harm", ["damaged", "gone"])
def test_a_state_that_is_damaged_or_gone_is_passed_over_for_the_one_before(
    checkpoints: Checkpoints, tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints.save(1, writes("one"))
    checkpoints.save(2, writes("two"))
    newest = names(checkpoints)[1]
    if harm == "damaged":
        spoil(checkpoints, newest)
    else:
        bucket, key = storage.split_uri(f"{checkpoints.prefix}/{newest}")
        storage.client().delete_object(Bucket=bucket, Key=key)
    assert restored(checkpoints, tmp_path) == (1, "one")
    assert newest in caplog.text
    checkpoints.save(2, writes("two again"))
    assert restored(checkpoints, tmp_path / "again") == (2, "two again")


def test_without_any_usable_state_a_trial_begins_anew(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.save(1, writes("one"))
    checkpoints.save(2, writes("two"))
    for name in names(checkpoints)[:2]:
        spoil(checkpoints, name)
    assert restored(checkpoints, tmp_path) == (None, None)


@pytest.mark.parametrize("pointer", [b"", b"{}", b'{"schema_version": 1, "names": "x"}', None])
def test_a_damaged_or_lost_pointer_costs_nothing(
    checkpoints: Checkpoints, tmp_path: Path, pointer: bytes | None
) -> None:
    checkpoints.save(9, writes("nine"))
    checkpoints.save(10, writes("ten"))
    if pointer is None:
        bucket, key = storage.split_uri(f"{checkpoints.prefix}/latest.json")
        storage.client().delete_object(Bucket=bucket, Key=key)
    else:
        spoil(checkpoints, "latest.json", pointer)
    assert restored(checkpoints, tmp_path) == (10, "ten")
    checkpoints.save(11, writes("eleven"))
    assert len(names(checkpoints)) == 3


def pointer_of_another_release(checkpoints: Checkpoints, **changes: Any) -> None:
    uri = f"{checkpoints.prefix}/latest.json"
    storage.write_bytes(uri, json.dumps(json.loads(storage.read_bytes(uri)) | changes).encode())


def test_what_a_later_release_notes_in_the_pointer_is_ignored(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.save(9, writes("nine"))
    pointer_of_another_release(checkpoints, host="gpu-1")
    spoil(checkpoints, f"{'9' * 8}-abc123-{'0' * 64}.tar")  # which would be newest, were the pointer not believed
    assert restored(checkpoints, tmp_path) == (9, "nine")


def test_states_of_a_newer_release_are_passed_over_in_one_sentence(
    checkpoints: Checkpoints, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints.save(9, writes("nine"))
    pointer_of_another_release(checkpoints, schema_version=2)
    assert restored(checkpoints, tmp_path) == (None, None)
    (said,) = caplog.messages
    assert said == (
        f"{checkpoints.prefix}/latest.json: a newer release wrote it (Pointer in schema version 2; this release reads "
        "up to 1); its states are passed over"
    )
    checkpoints.save(1, writes("one"))
    assert restored(checkpoints, tmp_path) == (1, "one")


def test_a_save_that_is_cut_off_leaves_the_last_state(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.save(1, writes("one"))
    before = names(checkpoints)

    def gone(*_: object, **__: object) -> None:
        raise ConnectionError("the node went away")

    def full(_: Path) -> None:
        raise OSError(28, os.strerror(28))

    for point in ("upload", "write_document"):  # before and after the state itself is there
        with monkeypatch.context() as broken:
            broken.setattr(module, point, gone)
            with pytest.raises(ConnectionError):
                checkpoints.save(2, writes("two"))
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(2, full)
    assert storage.read_bytes(f"{checkpoints.prefix}/latest.json")
    assert set(before) <= set(names(checkpoints))
    assert restored(checkpoints, tmp_path) == (1, "one")
    checkpoints.save(3, writes("three"))
    assert [name.split("-")[0] for name in names(checkpoints)] == ["00000001", "00000003", "latest.json"]


def test_states_of_another_training_are_not_taken(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.save(5, writes("five"))
    other = Checkpoints(checkpoints.prefix, "def456", tmp_path)
    assert restored(other, tmp_path) == (None, None)


def test_the_same_state_saved_twice_is_kept_once(checkpoints: Checkpoints, tmp_path: Path) -> None:
    checkpoints.save(5, writes("five"))
    checkpoints.save(6, writes("six"))
    checkpoints.save(6, writes("six"))
    assert restored(checkpoints, tmp_path) == (6, "six")
    assert len(names(checkpoints)) <= 3


def test_what_is_decided_of_a_step_holds_for_all_trials_that_train_together() -> None:
    now, stop = [0.0], [False]
    schedule = CheckpointSchedule(10, stopping=lambda: stop[0], clock=lambda: now[0])
    assert schedule.after(0) == "go on"
    now[0] = 11
    assert schedule.after(0) == "go on"  # another trial's same step
    assert [schedule.after(1), schedule.after(1)] == ["save", "save"]
    assert schedule.after(2) == "go on"
    stop[0] = True
    assert schedule.after(2) == "go on"
    assert [schedule.after(3), schedule.after(3)] == ["stop", "stop"]
