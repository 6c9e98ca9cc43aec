"""A run of an earlier release: who does it, what became of it, what it was decided on, what it has read."""

from __future__ import annotations

import json
from urllib.parse import unquote

from mlplatform import storage
from mlplatform.documents.decisions import Decision, RecordedAnswer
from mlplatform.documents.evaluation import EvaluateResult
from mlplatform.documents.inputs import InputManifest
from mlplatform.documents.paths import RunPaths
from mlplatform.documents.run import RunConfig, RunRecord
from mlplatform.ingest import claims, landing
from mlplatform.promotion import approval, audit
from tests.unit.golden.conftest import World


def prefixes(world: World, document: str) -> list[str]:
    """Return the prefixes of runs that have a document."""
    return [uri.removesuffix(f"/{document}") for uri in world.golden.matching(f"data/runs/*/*/{document}")]


def test_a_finished_run_is_not_done_again(world: World) -> None:
    finished = 0
    for prefix in prefixes(world, "run.json"):
        paths = RunPaths(prefix)
        record = storage.read_document(paths.record, RunRecord)
        if record.state == "finished":
            wanted = record.model_copy(update={"owner": "another", "state": "running"})
            claim = claims.claim(paths, world.settings.buckets.data, wanted, lambda owner: False)
            assert (claim.granted, claim.record) == (False, record)
            finished += 1
    assert finished >= 3


def test_a_callback_finds_the_run_of_its_dag_run(world: World) -> None:
    states = set()
    for uri in world.golden.matching("data/runs/_owners/*.json"):
        owner = unquote(uri.rsplit("/", 1)[-1].removesuffix(".json"))
        paths = claims.paths_of_owner(world.settings.buckets.data, owner)
        assert paths is not None
        states.add(storage.read_document(paths.record, RunRecord).state)
    assert states == {"finished", "failed"}


def test_why_a_trial_failed_is_still_told(world: World) -> None:
    notes = [note for prefix in prefixes(world, "run.json") for note in claims.failures(RunPaths(prefix))]
    assert [note.task for note in notes] == ["training.train[2]"]
    assert "ran out of memory" in notes[0].message


def test_what_was_decided_is_still_about_its_evaluation(world: World) -> None:
    decided = prefixes(world, "decision.json")
    assert decided
    for prefix in decided:
        config = storage.read_document(f"{prefix}/evaluate/config.json", RunConfig)
        evaluation = storage.read_document(f"{prefix}/evaluate/result.json", EvaluateResult)
        decision = storage.read_document(f"{prefix}/decision.json", Decision)
        assert config.candidate is not None
        name, candidate = config.model.registered_model, config.candidate
        assert evaluation.digest_of(name, candidate.model_digest) == evaluation.evaluation_digest
        assert decision.evaluation_digest == evaluation.evaluation_digest
        tags = world.registry.tags(name, candidate.version)
        assert (tags["evaluation_digest"], tags["model_digest"], tags["run_prefix"]) == (
            decision.evaluation_digest,
            candidate.model_digest,
            prefix,
        )


def test_the_answer_to_a_question_is_found_where_it_was_written(world: World) -> None:
    outcomes = set()
    for uri in world.golden.matching("data/runs/*/*/approval/*.json"):
        held = storage.read_document(uri, RecordedAnswer)
        assert approval.recorded(held.question) == held
        outcomes.add((held.answer.outcome, held.answer.source))
    assert outcomes == {("approved", "policy"), ("approved", "airflow"), ("rejected", "airflow")}


def test_an_entry_of_the_audit_log_written_again_is_the_same_entry(world: World) -> None:
    before = world.keys("artifacts")
    kinds = set()
    for dataset in sorted({key.split("/")[1] for key in before}):
        for entry in audit.entries(world.settings, dataset):
            audit.append(world.settings, entry)
            kinds.add(entry.kind)
    assert world.keys("artifacts") == before
    assert kinds == {"approved", "rejected", "expired", "deployed", "rolled-back", "deployment-failed"}


def test_accepted_files_are_still_those_that_runs_have_read(world: World) -> None:
    dataset = world.golden.dataset
    tables = {path.parent.name for _, path in world.golden.objects() if f"/raw/{dataset}/" in path.as_posix()}
    bucket = world.settings.buckets.data
    accepted = landing.list_inputs(bucket, f"raw/{dataset}", tables, new=False)
    manifests = [
        storage.read_document(f"{prefix}/inputs.json", InputManifest)
        for prefix in prefixes(world, "decision.json")
        if f"/runs/{dataset}/" in prefix
    ]
    newest = max(manifests, key=lambda manifest: len(manifest.objects))
    assert {(item.key, item.content_id) for item in accepted} == {
        (item.key, item.content_id) for item in newest.objects
    }
    # Landed once more, they are recognised.
    landed = [item.model_copy(update={"new": True}) for item in accepted]
    assert landing.plan(landed, accepted).duplicates == landed


def test_a_refused_file_says_why(world: World) -> None:
    (uri,) = world.golden.matching("landing/quarantine/**/*.reason.json")
    reason = json.loads(storage.read_bytes(uri))
    assert storage.read_bytes(uri.removesuffix(".reason.json"))
    assert reason["uri"].endswith(uri.removesuffix(".reason.json").rsplit("/", 1)[-1])
