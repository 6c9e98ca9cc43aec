from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from mlplatform import storage
from mlplatform.config.loading import load_model
from mlplatform.documents import digests
from mlplatform.documents.inputs import InputObject
from mlplatform.documents.paths import RunPaths
from mlplatform.documents.run import FailureNote, RunRecord
from mlplatform.ingest import claims
from mlplatform.ingest.claims import Claim

PATHS = RunPaths.of("data", "parcels", "key")
START = datetime(2026, 1, 1, tzinfo=UTC)


def record(owner: str, **changes: Any) -> RunRecord:
    return RunRecord(run_key="key", dataset="parcels", owner=owner, state="running", started_at=START, **changes)


def claim(owner: str, *live: str) -> Claim:
    return claims.claim(PATHS, "data", record(owner), lambda other: other in live)


def note(task: str, seconds: int) -> FailureNote:
    return FailureNote(task=task, message=f"{task} broke", log_url=None, at=START + timedelta(seconds=seconds))


def test_the_first_to_come_gets_the_run(s3: Any) -> None:
    assert claim("a").granted
    second = claim("b", "a")
    assert not second.granted
    assert second.record.owner == "a"


def test_the_owner_may_claim_again(s3: Any) -> None:
    claim("a")
    assert claim("a", "a").granted


def test_a_dead_owner_loses_the_run(s3: Any) -> None:
    claim("a")
    assert claim("b").granted
    assert claims.paths_of_owner("data", "b") == PATHS
    assert claims.finish(PATHS, "a", state="finished") is None, "the dead one can no longer end it"


def test_a_failed_run_may_be_taken_up_and_a_finished_one_not(s3: Any) -> None:
    claim("a")
    claims.finish(PATHS, "a", state="failed")
    assert claim("b", "a").granted
    claims.finish(PATHS, "b", state="finished", outcome="rejected", model_version="3", reasons=["too bad"])
    third = claim("c")
    assert not third.granted
    assert (third.record.outcome, third.record.model_version) == ("rejected", "3")
    assert not claim("b").granted, "not even by the one who finished it"


def test_between_two_that_claim_at_once_one_wins(s3: Any, monkeypatch: Any) -> None:
    claim("a")
    read = storage.read_stored
    raced: list[bool] = []

    def read_then_lose(uri: str, kind: Any) -> Any:
        found = read(uri, kind)
        if not raced:
            raced.append(True)
            claim("b")  # takes it between the read and the write
        return found

    monkeypatch.setattr(storage, "read_stored", read_then_lose)
    late = claim("c", "b")
    assert not late.granted
    assert late.record.owner == "b"


def test_a_dag_run_that_claimed_nothing_has_no_paths(s3: Any) -> None:
    assert claims.paths_of_owner("data", "manual__2026-01-01T00:00:00+00:00") is None


def test_odd_run_ids_are_addresses_too(s3: Any) -> None:
    owner = "manual__2026-01-01T00:00:00+00:00/../x y"
    claim(owner)
    assert claims.paths_of_owner("data", owner) == PATHS


def test_the_first_failed_task_is_the_culprit_but_a_trial_only_if_alone(s3: Any) -> None:
    assert claims.root_cause([]) is None
    for entry in (note("training.train[1]", 1), note("training.select_best", 3), note("notify", 4)):
        claims.note_failure(PATHS, entry)
    found = claims.failures(PATHS)
    assert [entry.task for entry in found] == ["training.train[1]", "training.select_best", "notify"]
    assert claims.root_cause(found) == found[1]
    assert claims.root_cause(found[:1]) == found[0]


def test_a_new_attempt_forgets_the_old_one_s_failures(s3: Any) -> None:
    claim("a")
    claims.note_failure(PATHS, note("data.prepare", 1))
    claim("a")
    assert claims.failures(PATHS) == []


def test_the_run_key_changes_with_everything_that_decides_the_outcome(settings: Any) -> None:
    files = [
        InputObject(table="parcels", bucket="b", key=f"k/{n}", version_id=None, content_id=n, size=1, new=True)
        for n in ("jan", "feb")
    ]
    base: dict[str, Any] = {
        "objects": files,
        "configuration": {"model": load_model("parcels").model_dump(mode="json"), "seed": 0},
        "images": settings.images,
    }
    moved = [file.model_copy(update={"bucket": "other", "new": False, "version_id": "v"}) for file in files]
    same = digests.run_key(**base)
    assert digests.run_key(**{**base, "objects": list(reversed(moved))}) == same, "where a file lies does not matter"
    changes = {
        "objects": files[:1],
        "configuration": {**base["configuration"], "seed": 1},
        "images": settings.images.model_copy(update={"trainer": "trainer:2"}),
    }
    keys = {name: digests.run_key(**{**base, name: value}) for name, value in changes.items()}
    assert len({same, *keys.values()}) == len(changes) + 1
