"""The Python tasks one after another, with S3 and a registry in memory; pods are played by writing their results."""

from __future__ import annotations

from typing import Any

import pytest

from mlplatform.config.environment import Settings
from mlplatform.config.loading import load_dataset
from mlplatform.config.policy import Guards
from mlplatform.documents.decisions import Decision
from mlplatform.documents.evaluation import EvaluateResult, Latency
from mlplatform.documents.inputs import InputManifest
from mlplatform.documents.results import Selection, StepFailure
from mlplatform.documents.run import RunConfig, RunRecord
from mlplatform.errors import NonRetryableError
from mlplatform.ingest import claims
from mlplatform.storage import read_document, split_uri, try_read_bytes, write_document
from mlplatform.training import approvals, inputs, registration
from mlplatform.training.trials import generate_trials, select_best
from tests.unit.mlplatform.story import NOW, PARAMS, Story


def test_the_first_model_is_approved(story: Story) -> None:
    story.land("jan")
    resolved = story.resolve("a")
    assert resolved.granted
    assert "2 files, 2 of them new" in resolved.message
    config = read_document(resolved.paths.config, RunConfig)
    assert config.lineage["dag_run_id"] == "a"
    assert config.lineage["image"] == "trainer-cuda:1", "trees, on a GPU as there is one"
    assert story.validate(resolved.paths) == "2 new files accepted"
    manifest = read_document(resolved.paths.inputs, InputManifest)
    assert {item.bucket for item in manifest.objects} == {"data"}, "what follows reads accepted files"
    best = story.train(resolved.paths, 0.7, 0.8, 0.75)
    assert (best["trial"], best["value"]) == (1, 0.8)
    decision = story.evaluate(resolved.paths, 0.8)
    assert decision.outcome == "promote"
    version = story.registry.versions[0]
    assert version.source == "mlflow-artifacts:/1/run-1/artifacts/model"
    assert version.tags["trial"] == "1"
    assert version.tags["gate_outcome"] == "promote"
    assert version.tags["evaluation_digest"] == decision.evaluation_digest
    assert version.tags["task"] == "binary"
    belongs = {"dataset": "parcels", "owner": "team"}
    assert belongs.items() <= version.tags.items()
    assert story.registry.model_tags == belongs
    assert version.tags["validation_report"] == "s3://data/validation.html"
    assert version.tags["evaluation_report"] == "s3://data/evaluation.html"
    assert story.registry.aliases == {"challenger": "1"}, "the deployer alone makes a champion"
    held = story.approve(resolved.paths)
    assert (held.answer.by, held.answer.source) == ("policy", "policy")
    assert version.tags["approval_evaluation_digest"] == decision.evaluation_digest
    message = story.conclude(resolved.paths, "a", held)
    assert message.event == "approved"
    assert message.lines[0].startswith("Version 1 of parcels was approved by policy (")
    assert "3 trials: 3 succeeded; 0.30 GPU-hours" in message.text
    assert "Report: https://" in message.text
    assert "prefix=evaluation.html" in message.text
    record = read_document(resolved.paths.record, RunRecord)
    assert (record.state, record.outcome, record.model_version) == ("finished", "promoted", "1")


def test_a_worse_model_is_rejected_and_nothing_is_deployed(story: Story) -> None:
    story.promoted("a")
    story.land("feb")
    paths = story.resolve("b").paths
    story.validate(paths)
    story.train(paths, 0.7)
    decision = story.evaluate(paths, 0.79, champion=("1", 0.8))
    assert decision.outcome == "reject"
    with pytest.raises(NonRetryableError, match="the gate's outcome is reject"):
        story.approve(paths)
    said_yes = {"outcome": "approved", "by": "x", "reason": "", "at": NOW.isoformat(), "source": "airflow"}
    with pytest.raises(NonRetryableError, match="the gate rejected version 2: nobody can approve it"):
        approvals.record_approval(story.settings, paths.prefix, said_yes, "train__parcels/b")
    message = story.conclude(paths, "b")
    assert message.event == "rejected"
    assert "worse than the champion" in message.text
    assert "prefix=evaluation.html" in message.text
    assert story.registry.aliases == {"champion": "1", "challenger": "1"}, "a rejected one takes nobody's place"
    assert read_document(paths.record, RunRecord).outcome == "rejected"


def test_the_same_data_landed_twice_trains_once(story: Story) -> None:
    first = story.promoted("a")
    story.land("jan")
    again = story.resolve("b")
    assert not again.granted
    assert again.paths == first
    assert "were done before by a" in again.message
    assert "version 1 was promoted" in again.message
    assert story.s3.list_objects_v2(Bucket="landing").get("Contents") is None, "the duplicates are gone"
    message = approvals.conclude(story.settings, again.paths.prefix, "b", again.message, None)
    assert message.event == "nothing-to-do"
    assert read_document(first.record, RunRecord).owner == "a", "the finished run stays as it was"


def test_other_parameters_are_another_run_on_the_same_data(story: Story) -> None:
    first = story.promoted("a")
    other = story.resolve("b", seed=1, wait_for_new_data=False)
    assert other.granted
    assert other.paths != first
    assert "0 of them new" in other.message


def test_a_run_another_one_is_at_is_left_to_it(story: Story) -> None:
    story.land("jan")
    story.resolve("a")
    story.live = {"a"}
    second = story.resolve("b")
    assert not second.granted
    assert "the DAG run a is at work" in second.message
    story.live = set()
    assert story.resolve("b").granted


def test_a_table_without_any_file_is_named(story: Story) -> None:
    story.s3.put_object(Bucket="landing", Key="parcels/parcels/jan.parquet", Body=b"x")
    with pytest.raises(
        NonRetryableError, match=r"the table 'depots' has no file yet; land one under s3://landing/parcels/depots/"
    ):
        story.resolve("a")


def test_thresholds_of_one_run(story: Story) -> None:
    story.land("jan")
    paths = story.resolve("a", minimum_quality=0.95).paths
    policy = read_document(paths.config, RunConfig).policy
    assert (policy.minimum_quality, policy.comparison.margin) == (0.95, 0.01)


def test_where_a_run_waits(settings: Settings) -> None:
    assert inputs.awaited_key(settings, PARAMS) == "s3://landing/parcels/parcels/*.parquet"
    wait = {**PARAMS, "wait_for_new_data": False}
    assert inputs.awaited_key(settings, wait) == "s3://data/raw/parcels/parcels/*.parquet"


def test_refused_files_go_to_quarantine_and_the_run_can_be_done_without_them(story: Story) -> None:
    story.land("bad", "good")
    paths = story.resolve("a").paths
    failure = StepFailure(
        step="validate",
        kind="bad-input",
        message="s3://landing/parcels/parcels/bad.parquet: column late: is missing",
        subjects=["s3://landing/parcels/parcels/bad.parquet"],
    )
    write_document(paths.step("validate", "error.json"), failure)
    done = inputs.settle_landing(story.settings, paths.prefix)
    assert "moved to quarantine: s3://landing/parcels/parcels/bad.parquet" in done
    assert "column late: is missing" in done
    second = story.resolve("b")
    assert second.granted
    assert second.paths != paths
    manifest = read_document(second.paths.inputs, InputManifest)
    assert [item.key for item in manifest.objects] == ["parcels/depots/all.parquet", "parcels/parcels/good.parquet"]


@pytest.mark.parametrize("kind", ["bad-config", None])
def test_without_a_verdict_on_the_files_they_stay(story: Story, kind: Any) -> None:
    story.land("jan")
    paths = story.resolve("a").paths
    if kind:
        failure = StepFailure(step="validate", kind=kind, message="query: no such column")
        write_document(paths.step("validate", "error.json"), failure)
    assert "stay in the landing bucket" in inputs.settle_landing(story.settings, paths.prefix)
    assert story.resolve("b").granted


def test_some_trials_may_fail_but_not_all(story: Story) -> None:
    story.land("jan")
    paths = story.resolve("a").paths
    story.validate(paths)
    assert story.train(paths, None, 0.7, 0.8)["trial"] == 2
    selected = read_document(paths.selection, Selection)
    assert [trial.status for trial in selected.trials] == ["failed", "succeeded", "succeeded"]
    assert selected.trials[0].reason == "no result; see the log of its task"
    assert selected.trials[0].params["max_bin"] == 64
    for index in (1, 2):
        bucket, key = split_uri(paths.training_pod(index, "result.json"))
        story.s3.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(NonRetryableError, match="0 of 3 trials succeeded"):
        select_best(story.settings, paths.prefix, 3)
    assert story.registry.versions == []


@pytest.mark.parametrize("prefix", ["None", "", None])
def test_a_task_after_a_failed_beginning_says_so(settings: Settings, prefix: Any) -> None:
    with pytest.raises(NonRetryableError, match="no run was claimed: an earlier step failed"):
        inputs.settle_landing(settings, prefix)
    with pytest.raises(NonRetryableError, match="no trial was generated"):
        select_best(settings, "s3://data/runs/parcels/key", 0)


def test_registering_twice_finds_the_same_version(story: Story) -> None:
    story.land("jan")
    paths = story.resolve("a").paths
    story.train(paths, 0.7)
    assert registration.register(story.settings, paths.prefix) == registration.register(story.settings, paths.prefix)
    assert len(story.registry.versions) == 1


def test_an_evaluation_against_yesterday_s_champion_decides_nothing(story: Story) -> None:
    story.promoted("a")
    story.land("feb")
    paths = story.resolve("b").paths
    story.train(paths, 0.9)
    story.registry.aliases["champion"] = "7"
    with pytest.raises(
        NonRetryableError, match="the champion is now version 7, but the evaluation compared with version 1"
    ):
        story.evaluate(paths, 0.9, champion=("1", 0.8))
    registration.register(story.settings, paths.prefix)
    assert try_read_bytes(paths.step("evaluate", "result.json")) is None, "it will be done again"


def test_an_evaluation_of_another_candidate_decides_nothing(story: Story) -> None:
    story.land("jan")
    paths = story.resolve("a").paths
    story.train(paths, 0.9)
    story.evaluate(paths, 0.9)
    evaluation = read_document(paths.step("evaluate", "result.json"), EvaluateResult)
    wrong = evaluation.model_copy(update={"candidate": evaluation.candidate.model_copy(update={"model_version": "9"})})
    write_document(paths.step("evaluate", "result.json"), wrong)
    with pytest.raises(NonRetryableError, match="is about version 9 of parcels, not about the candidate, version 1"):
        registration.decide(story.settings, paths.prefix)


@pytest.mark.parametrize("change", [{"rows": 10_000}, {"test_digest": "others"}, {"evaluation_digest": "another"}])
def test_an_evaluation_that_was_changed_decides_nothing(story: Story, change: Any) -> None:
    story.land("jan")
    paths = story.resolve("a").paths
    story.train(paths, 0.9)
    story.evaluate(paths, 0.5)
    found = read_document(paths.step("evaluate", "result.json"), EvaluateResult)
    write_document(paths.step("evaluate", "result.json"), found.model_copy(update=change))
    with pytest.raises(
        NonRetryableError, match=r"evaluate/result\.json: its numbers do not have the digest .*it was changed since"
    ):
        registration.decide(story.settings, paths.prefix)


def test_a_latency_that_was_changed_decides_nothing(story: Story) -> None:
    story.land("jan")
    paths = story.resolve("a").paths
    story.train(paths, 0.9)
    story.evaluate(paths, 0.9)
    found = read_document(paths.step("evaluate", "result.json"), EvaluateResult)
    quick = found.candidate.model_copy(update={"latency": Latency(single_ms=0.1, batch_ms=0.001)})
    write_document(paths.step("evaluate", "result.json"), found.model_copy(update={"candidate": quick}))
    with pytest.raises(NonRetryableError, match="it was changed since"):
        registration.decide(story.settings, paths.prefix)


def test_data_that_was_never_validated_is_rejected(story: Story) -> None:
    story.land("jan")
    paths = story.resolve("a").paths
    story.train(paths, 0.9)
    assert story.evaluate(paths, 0.9).outcome == "reject"
    story.validate(paths)
    assert registration.decide(story.settings, paths.prefix).outcome == "promote"


def test_where_a_person_must_approve_nothing_is_deployed_yet(story: Story) -> None:
    story.settings = story.settings.model_copy(update={"policy": Guards()})
    story.land("jan")
    paths = story.resolve("a").paths
    story.validate(paths)
    story.train(paths, 0.9)
    decision = story.evaluate(paths, 0.9)
    assert decision.outcome == "needs-approval"
    assert read_document(paths.decision, Decision) == decision
    with pytest.raises(NonRetryableError, match="only promote needs no person"):
        story.approve(paths)
    with pytest.raises(NonRetryableError, match="nobody has answered; clear the tasks in approval"):
        story.conclude(paths, "a")


@pytest.mark.parametrize(
    ("later", "outcome", "challenger", "event"),
    [(0.95, "superseded", "2", "superseded"), (0.5, "approved", "1", "approved")],
    ids=["passes", "is-rejected"],
)
def test_a_later_candidate_takes_the_place_of_one_that_waits_only_if_it_passes(
    story: Story, later: float, outcome: str, challenger: str, event: str
) -> None:
    story.settings = story.settings.model_copy(update={"policy": Guards()})
    prefixes = []
    for owner, value in (("a", 0.9), ("b", later)):
        story.land(owner)
        paths = story.resolve(owner).paths
        story.validate(paths)
        story.train(paths, value)
        registration.register(story.settings, paths.prefix)
        assert story.registry.aliases.get("challenger") == (None if owner == "a" else "1"), "not before the gate"
        story.evaluate(paths, value)
        prefixes.append(paths)
    assert story.registry.aliases["challenger"] == challenger
    yes = {"outcome": "approved", "by": "jane", "reason": "good", "at": NOW.isoformat(), "source": "airflow"}
    held = approvals.record_approval(story.settings, prefixes[0].prefix, yes, "train__parcels/a")
    assert held.answer.outcome == outcome
    assert story.conclude(prefixes[0], "a", held).event == event
    closed = read_document(prefixes[0].record, RunRecord)
    assert closed.outcome == ("superseded" if outcome == "superseded" else "promoted")


def test_what_a_person_reads_before_answering(story: Story) -> None:
    story.promoted("a")
    story.settings = story.settings.model_copy(update={"policy": Guards()})
    story.land("feb")
    paths = story.resolve("b").paths
    story.validate(paths)
    story.train(paths, 0.9)
    story.evaluate(paths, 0.9, champion=("1", 0.8))
    asked = approvals.ask(story.settings, paths.prefix)
    assert asked["subject"] == "Deploy version 2 of parcels instead of version 1?"
    for text in (
        "| version | 2 | 1 |",
        "| roc_auc | 0.9000 | 0.8000 |",
        "Improvement in roc_auc: +0.1000, ",
        "% interval +",
        "a person must approve it",
        "| comparison | yes |",
        "[Evaluation report](https://",
        "[model version](http://mlflow.invalid/#/models/parcels/versions/2)",
        story.registry.versions[1].tags["evaluation_digest"],
    ):
        assert text in asked["body"], asked["body"]


@pytest.mark.parametrize(("outcome", "event"), [("rejected", "rejected"), ("expired", "expired")])
def test_a_person_who_says_no_or_nothing(story: Story, outcome: str, event: str) -> None:
    story.settings = story.settings.model_copy(update={"policy": Guards()})
    story.land("jan")
    paths = story.resolve("a").paths
    story.validate(paths)
    story.train(paths, 0.9)
    story.evaluate(paths, 0.9)
    answer = {"outcome": outcome, "by": "jane", "reason": "not now", "at": NOW.isoformat(), "source": "airflow"}
    held = approvals.record_approval(story.settings, paths.prefix, answer, "train__parcels/a")
    message = story.conclude(paths, "a", held)
    assert message.event == event
    assert "not now" in message.text
    record = read_document(paths.record, RunRecord)
    assert (record.outcome, "not now" in record.reasons[0]) == ("rejected", True)


def test_a_nan_metric_is_rejected(story: Story) -> None:
    story.land("jan")
    paths = story.resolve("a").paths
    story.train(paths, 0.9)
    assert story.evaluate(paths, None).outcome == "reject"


def test_a_failed_run_taken_up_again_keeps_what_was_done(story: Story) -> None:
    story.land("jan")
    paths = story.resolve("a").paths
    story.validate(paths)
    story.train(paths, 0.7)
    claims.finish(paths, "a", state="failed")
    again = story.resolve("b", wait_for_new_data=False)
    assert again.granted
    assert again.paths == paths, "accepted files have the identity they landed with"
    assert select_best(story.settings, paths.prefix, 1)["trial"] == 0


# --- The search ---------------------------------------------------------------------------------


def searching(settings: Settings, **changes: Any) -> Settings:
    training = settings.training
    chosen = training.search.model_copy(update=changes)
    return settings.model_copy(update={"training": training.model_copy(update={"search": chosen})})


def test_trials_share_pods_and_each_pod_knows_its_own(story: Story) -> None:
    story.settings = searching(story.settings, trials_per_pod=2)
    story.land("jan")
    paths = story.resolve("a").paths
    best = story.train(paths, 0.7, None, 0.8, 0.75)
    pods = [read_document(paths.training_pod(index, "config.json"), RunConfig) for index in (0, 1)]
    assert [[trial.index for trial in pod.trials] for pod in pods] == [[0, 1], [2, 3]]
    assert best["trial"] == 2
    assert best["summary"].startswith("4 trials: 2 succeeded, 2 failed")


def test_a_pod_is_given_what_the_settings_say_of_training(story: Story) -> None:
    story.land("jan")
    paths = story.resolve("a", device="cpu", seed=3).paths
    story.train(paths, 0.7)
    config = read_document(paths.training_pod(0, "config.json"), RunConfig)
    assert (config.family.name, config.device, config.seed) == ("xgboost", "cpu", 3)
    assert config.checkpoint_seconds == story.settings.training.checkpoint_seconds
    assert config.search == story.settings.training.search
    assert config.preparation == story.settings.preparation


def test_the_image_in_the_lineage_is_the_one_that_trained(story: Story) -> None:
    story.land("jan")
    images = {
        device: read_document(story.resolve("a", device=device).paths.config, RunConfig).lineage["image"]
        for device in ("cpu", "cuda")
    }
    assert images == {"cpu": "trainer:1", "cuda": "trainer-cuda:1"}


def test_a_grid_has_a_pod_for_each_of_its_points(story: Story) -> None:
    story.land("jan")
    paths = story.resolve("a", search="grid", trials=9).paths
    arguments = generate_trials(story.settings, paths.prefix, 9)
    assert len(arguments) == 9
    assert arguments[8] == [
        *("train", "--config", f"{paths.prefix}/train/008/config.json"),
        *("--input", f"{paths.prefix}/prepare", "--output", f"{paths.prefix}/train/008"),
    ]


def test_the_runs_of_the_trials_are_nested_in_one_of_the_search(story: Story) -> None:
    story.land("jan")
    paths = story.resolve("a").paths
    generate_trials(story.settings, paths.prefix, 3)
    (parent,) = story.registry.runs.values()
    assert parent.info.status == "RUNNING"
    config = read_document(paths.training_pod(2, "config.json"), RunConfig)
    assert config.parent_run_id == parent.info.run_id
    story.train(paths, 0.7, 0.8, 0.75)
    assert list(story.registry.runs.values()) == [parent], "a second attempt finds the first one's"
    assert parent.info.status == "FINISHED"
    assert (parent.tags["dataset"], parent.tags["owner"]) == ("parcels", "team")
    assert (parent.tags["kind"], parent.tags["best_trial"], parent.tags["best_run_id"]) == ("search", "1", "run-1")
    assert parent.metrics == {"roc_auc": 0.8, "gpu_hours": pytest.approx(0.3)}
    assert parent.params["search"] == "random"


def test_a_search_without_a_candidate_stays_open_for_another_attempt(story: Story) -> None:
    story.land("jan")
    paths = story.resolve("a").paths
    with pytest.raises(NonRetryableError, match="0 of 2 trials succeeded"):
        story.train(paths, None, None)
    (parent,) = story.registry.runs.values()
    assert parent.info.status == "RUNNING"


def test_a_deleted_experiment_is_refused(story: Story) -> None:
    story.land("jan")
    paths = story.resolve("a").paths
    story.registry.create_experiment("parcels")
    story.registry.experiments["parcels"].lifecycle_stage = "deleted"
    with pytest.raises(NonRetryableError, match="MLflow experiment 'parcels' is deleted; restore it"):
        generate_trials(story.settings, paths.prefix, 1)


@pytest.mark.parametrize("changes", [{"search": "grid", "trials": 9}, {"device": "cpu"}, {"family": "linear"}])
def test_another_way_to_train_is_another_run(story: Story, changes: Any) -> None:
    story.land("jan")
    assert story.resolve("a").paths != story.resolve("a", **changes).paths


def test_a_change_of_the_family_s_defaults_is_another_run(story: Story, bundle: Any) -> None:
    story.land("jan")
    first = story.resolve("a").paths
    file = bundle / "config" / "families" / "xgboost.yaml"
    file.write_text(file.read_text().replace("default: 0.3", "default: 0.2"))
    assert story.resolve("a").paths != first


def test_how_a_dataset_is_run_does_not_make_it_another_run(story: Story, bundle: Any) -> None:
    story.land("jan")
    first = story.resolve("a").paths
    trained = read_document(first.config, RunConfig)
    file = bundle / "config" / "models" / "parcels.yaml"
    file.write_text(
        file.read_text()
        + """
settings:
  orchestration: {schedule: "@daily", tags: [post]}
  training: {trials: 5, parallel_pods: 2}
  steps: {train: {memory: 1Gi}}
  monitoring: {action: retrain}
environments:
  local: {settings: {approval: {deadline_hours: 3}}}
  prod: {enabled: false}
"""
    )
    story.settings = load_dataset("parcels").settings
    assert story.settings.approval.deadline_hours == 3
    again = story.resolve("a")
    assert again.paths == first
    assert read_document(again.paths.config, RunConfig).model == trained.model


def test_a_higher_limit_of_trials_is_the_same_run(story: Story) -> None:
    story.land("jan")
    first = story.resolve("a").paths
    story.settings = searching(story.settings, maximum_trials=500)
    assert story.resolve("a").paths == first
    story.settings = searching(story.settings, maximum_gpu_hours=0.5)
    assert story.resolve("a").paths != first, "it decides which trials are trained"
