from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Run

import modelformat
from mlplatform import storage
from mlplatform.config.base import Scalar
from mlplatform.config.environment import Search
from mlplatform.documents.results import PrepareResult, TrainResult, TrialResult
from mlplatform.documents.run import Trial
from mlplatform.errors import NonRetryableError, UnavailableError
from mlplatform.promotion.registry import get_version
from modelformat import Predictor
from trainer import checkpoints, data, tracking, train
from trainer.data import Dataset
from trainer.families.base import Fitted, Task
from trainer.families.xgboost import XGBoost
from trainer.metrics import score_all
from trainer.session import DeviceOutOfMemory, Diverged, Session

SHORT: dict[str, Scalar] = {"n_estimators": 40, "early_stopping_rounds": 10, "max_depth": 3}
LONG: dict[str, Scalar] = {"n_estimators": 2000, "early_stopping_rounds": 2000, "max_depth": 4, "learning_rate": 0.01}
"""Two hundred steps, and a model that is not yet good after the first ones."""


def client(run: Run) -> Any:
    return tracking.connect(run.tracking_uri)


def runs(run: Run) -> list[Any]:
    experiment = client(run).get_experiment_by_name(run.model["name"])
    return list(client(run).search_runs([experiment.experiment_id])) if experiment else []


def validation(run: Run, folder: Path) -> data.Dataset:
    prepared = storage.read_document(f"{run.prefix}/prepare/result.json", PrepareResult)
    kinds: dict[str, data.Kind] = {name: feature["type"] for name, feature in run.model["features"].items()}
    classes = data.read_profile(prepared).classes
    return data.load(data.fetch(prepared.validation, folder), kinds, run.model["target"], classes)


def only(result: TrainResult) -> TrialResult:
    (trial,) = result.trials
    return trial


def train_only(run: Run) -> TrialResult:
    return only(run.done("train"))


def keys(run: Run, folder: str) -> list[str]:
    listed = storage.list_objects(f"{run.prefix}/train/{folder}/")
    return [str(entry["Key"]).rsplit("/", 1)[-1] for entry in listed]


def forget(run: Run) -> None:
    """Lose all that the step has written but its MLflow run and its checkpoints."""
    for key in ("result.json", "trials/000.json"):
        storage.client().delete_object(Bucket="data", Key=f"runs/{run.name}/train/{key}")


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_trial_becomes_a_run_with_a_model_that_anyone_can_load(tracked: Run, task: str, tmp_path: Path) -> None:
    tracked.use_task(task)
    tracked.land_good()
    tracked.done("prepare")
    tracked.trials = [Trial(index=4, params=SHORT)]
    tracked.parent_run_id = client(tracked).create_run("0").info.run_id
    result = train_only(tracked)
    assert (result.trial, result.family, result.status, result.reason) == (4, "xgboost", "succeeded", None)
    assert SHORT.items() <= result.params.items()
    assert result.params["subsample"] == 1  # the default of one that was not set
    metric = tracked.model["metric"]
    assert result.metrics[metric] is not None

    (found,) = runs(tracked)
    assert (found.info.run_id, found.info.status) == (result.run_id, "FINISHED")
    expected = {"run_key": tracked.name, "trial": "4", "dataset": tracked.model["name"], "git_sha": "0123abc"}
    expected |= {"owner": tracked.model["owner"]}
    expected |= {"mlflow.parentRunId": tracked.parent_run_id, "outcome": "succeeded"}
    assert expected.items() <= found.data.tags.items()
    assert {**{name: str(value) for name, value in result.params.items()}, "family": "xgboost"}.items() <= (
        found.data.params.items()
    )
    assert found.data.metrics[metric] == pytest.approx(result.metrics[metric])
    assert {item.dataset.name for item in found.inputs.dataset_inputs} == {
        f"{tracked.model['name']}-{name}" for name in ("training", "validation")
    }
    prepared = storage.read_document(f"{tracked.prefix}/prepare/result.json", PrepareResult)
    for item in found.inputs.dataset_inputs:
        split = prepared.train if item.tags[0].value == "training" else prepared.validation
        assert json.loads(item.dataset.source) == {"uri": split.uris[0]}
        assert json.loads(item.dataset.profile) == {"num_rows": split.rows, "num_features": 4}
    artifacts = client(tracked).download_artifacts(result.run_id, "", str(tmp_path))
    importance = json.loads(Path(artifacts, "importance.json").read_text())
    assert sum(importance.values()) == pytest.approx(1)
    assert set(importance) == set(tracked.model["features"])
    history = json.loads(Path(artifacts, "history.json").read_text())
    assert [note["step"] for note in history] == list(range(len(history)))
    charted = client(tracked).get_metric_history(result.run_id, f"validation/{metric}")
    assert sorted((point.step, point.value) for point in charted) == [(note["step"], note[metric]) for note in history]
    assert any(name.startswith("system/") for name in found.data.metrics)

    registry = client(tracked)
    registry.create_registered_model(tracked.model["registered_model"])
    registered = registry.create_model_version(tracked.model["registered_model"], result.model_uri, result.run_id)
    assert registered.status == "READY"

    # In a process of its own that knows nothing of ours: no PYTHONPATH, no access to S3.
    script = """
import json, sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
import pandas
rows = pandas.DataFrame(json.loads(sys.argv[3]))
shape = model.metadata.signature.outputs.inputs[0].shape
print(json.dumps([model.predict(model.input_example).tolist(), model.predict(rows).tolist(), shape]))
"""
    rows = validation(tracked, tmp_path)
    sample = {name: [None if v != v else v for v in values[:9].tolist()] for name, values in rows.columns.items()}
    uri = f"models:/{tracked.model['registered_model']}/{registered.version}"
    answer = subprocess.run(
        [sys.executable, "-c", script, tracked.tracking_uri, uri, json.dumps(sample)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    example, predictions, shape = json.loads(answer.stdout.splitlines()[-1])
    assert len(example) == 1
    assert shape == ([-1, 3] if task == "multiclass" else [-1])

    saved = tracking.download_model(
        tracked.tracking_uri,
        get_version(tracked.tracking_uri, registered.name, registered.version),
        tmp_path / "saved",
    )
    assert modelformat.digest(saved) == result.model_digest
    predictor = Predictor.load(saved)
    expected_predictions = predictor.predict(sample)
    assert np.shape(predictions) == ((9, 3) if task == "multiclass" else (9,))
    assert np.allclose(predictions, expected_predictions, atol=1e-6)
    # No skew: the metrics reported are those of the saved model on the prepared file, to the last bit.
    assert score_all(tracked.model["task"], rows.target, predictor.predict(rows.columns)) == result.metrics
    one_by_one = [predictor.predict({k: v[i : i + 1] for k, v in rows.columns.items()})[0] for i in range(20)]
    assert np.allclose(one_by_one, predictor.predict(rows.columns)[:20], atol=1e-6)


def test_a_second_run_of_a_finished_trial_does_nothing(prepared: Run, caplog: pytest.LogCaptureFixture) -> None:
    first = prepared.done("train")
    caplog.set_level("INFO")
    assert prepared.done("train") == first
    assert "nothing to do" in caplog.text
    assert len(runs(prepared)) == 1


def test_a_failed_trial_leaves_its_run_failed_and_a_retry_finishes_the_same_run(
    prepared: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of luck")

    with monkeypatch.context() as broken:
        broken.setattr(XGBoost, "fit", fail)
        with pytest.raises(RuntimeError, match="out of luck"):
            prepared.step("train")
    (failed,) = runs(prepared)
    assert (failed.info.status, failed.data.tags["reason"]) == ("FAILED", "out of luck")
    result = train_only(prepared)
    (finished,) = runs(prepared)
    assert finished.info.run_id == failed.info.run_id == result.run_id
    assert finished.info.status == "FINISHED"
    assert "reason" not in finished.data.tags


def test_a_trial_whose_result_was_lost_gives_the_same_model_again(prepared: Run) -> None:
    first = train_only(prepared)
    forget(prepared)
    second = train_only(prepared)
    assert second.model_digest == first.model_digest
    assert second.metrics == first.metrics
    (found,) = runs(prepared)
    assert found.info.status == "FINISHED"


def test_wrong_parameters_are_refused_and_the_run_is_failed(prepared: Run) -> None:
    for params, expected in (
        ({"depth": 3}, "trials.0.params.depth"),
        ({"max_depth": 0}, "max_depth: must be at least"),
    ):
        prepared.trials = [Trial(index=0, params=params)]  # type: ignore[arg-type]
        failure = prepared.refused("train")
        assert failure.kind == "bad-config"
        assert expected in failure.message
        assert [found.info.status for found in runs(prepared)] == ["FAILED"]


def test_no_trial_and_no_prepared_data_are_refused(tracked: Run) -> None:
    assert "prepare" in tracked.refused("train").message
    tracked.trials = []
    assert "trials: not set" in tracked.refused("train").message


def test_a_metric_that_cannot_be_computed_is_none_and_not_tracked(
    prepared: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "predict", lambda self, columns: np.full(len(columns["weight"]), np.nan))
    assert set(train_only(prepared).metrics.values()) == {None}
    (found,) = runs(prepared)
    assert "roc_auc" not in found.data.metrics


# --- Interrupted ------------------------------------------------------------------------------


class Child:
    """``python -m trainer train`` as a pod has it."""

    def __init__(self, run: Run, **environment: str) -> None:
        self.run = run
        run.write()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainer", *run.arguments("train")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def wait_for(self, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + 90
        while not what():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self) -> tuple[str, str]:
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate(timeout=60)


def state(run: Run) -> str | None:
    """Name of the newest state that was saved."""
    return max((key for key in keys(run, "checkpoints/000") if key.endswith(".tar")), default=None)


def test_a_trial_stopped_twice_gives_the_model_of_one_that_was_not(prepared: Run) -> None:
    prepared.trials = [Trial(index=0, params=LONG)]
    undisturbed = only(prepared.done("train", "undisturbed"))
    client(prepared).delete_run(undisturbed.run_id)

    prepared.checkpoint_seconds = 0.3
    seen = None
    for attempt in range(2):
        child = Child(prepared)
        child.wait_for(lambda: state(prepared) != seen)  # noqa: B023
        out, err = child.stop()
        assert child.process.returncode == 128 + signal.SIGTERM, err
        assert "another attempt goes on from there" in err
        assert ("goes on after step" in out) == (attempt > 0)
        assert prepared.failure("train") is None
        assert [found.info.status for found in runs(prepared)] == ["KILLED"]
        assert state(prepared) != seen
        assert len(keys(prepared, "checkpoints/000")) <= 3  # two states and what points at them
        seen = state(prepared)
    child = Child(prepared)
    out, err = child.process.communicate(timeout=120)
    assert child.process.returncode == 0, err
    assert "goes on after step" in out

    result = only(storage.read_document(f"{prepared.prefix}/train/result.json", TrainResult))
    assert result.model_digest == undisturbed.model_digest
    assert result.metrics == undisturbed.metrics
    assert keys(prepared, "checkpoints/000") == []
    (found,) = runs(prepared)
    assert (found.info.run_id, found.info.status) == (result.run_id, "FINISHED")
    charted = client(prepared).get_metric_history(result.run_id, "validation/roc_auc")
    assert sorted(point.step for point in charted) == list(range(199))


def test_a_trial_that_does_not_come_to_the_end_of_a_step_is_ended_anyhow(prepared: Run, tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(
        "import hashlib\n"
        "class Family:\n"
        "    def fit(self, *_):\n"
        "        print('fitting', flush=True)\n"
        "        hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)\n"  # minutes in C, where no handler of Python's runs
        "FAMILY = Family()\n"
    )
    config = prepared.config()
    prepared.config = lambda: config.model_copy(  # type: ignore[method-assign]
        update={"family": config.family.model_copy(update={"module": "stubborn"})}
    )
    child = Child(
        prepared, PYTHONPATH=f"{tmp_path}:{os.environ['PYTHONPATH']}", TRAINER_GRACE_SECONDS="2", PYTHONUNBUFFERED="1"
    )
    assert child.process.stdout is not None
    while "fitting" not in child.process.stdout.readline():
        assert child.process.poll() is None
    started = time.monotonic()
    _, err = child.stop()
    assert child.process.returncode == 128 + signal.SIGTERM
    assert 0.5 < time.monotonic() - started < 10
    assert "did not come to an end in time" in err
    assert [found.info.status for found in runs(prepared)] == ["KILLED"]


def test_an_attempt_that_is_stopped_before_it_trains_ends_at_once(tracked: Run) -> None:
    """While it waits for MLflow, for instance, there is nothing to save."""
    tracked.land_good()
    tracked.done("prepare")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        tracked.tracking_uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        child = Child(tracked)
        silent.settimeout(60)
        with silent.accept()[0]:
            started = time.monotonic()
            _, err = child.stop()
            assert child.process.returncode == 128 + signal.SIGTERM, err
            assert time.monotonic() - started < 5


# --- What goes wrong around it ----------------------------------------------------------------


def test_a_full_disk_is_told_and_leaves_nothing_half_done(
    prepared: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = modelformat.write_manifest

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28), "/tmp/model.ubj")

    with monkeypatch.context() as broken:
        broken.setattr(modelformat, "write_manifest", full)
        assert prepared.step("train") == 1
    assert "train: the disk is full" in capsys.readouterr().err.splitlines()[-1]
    assert storage.try_read_bytes(f"{prepared.prefix}/train/result.json") is None
    assert keys(prepared, "trials") == []
    (failed,) = runs(prepared)
    assert failed.info.status == "FAILED"
    assert not client(prepared).list_artifacts(failed.info.run_id)
    assert modelformat.write_manifest is save
    assert train_only(prepared).status == "succeeded"


def test_s3_that_fails_is_told_and_leaves_nothing_half_done(
    prepared: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from botocore.exceptions import ClientError

    put = storage.write_bytes

    def slow_down(uri: str, *rest: Any, **more: Any) -> bool:
        if uri.endswith("/trials/000.json"):
            raise ClientError({"Error": {"Code": "SlowDown", "Message": "Reduce your request rate"}}, "PutObject")
        return put(uri, *rest, **more)

    with monkeypatch.context() as broken:
        broken.setattr(storage, "write_bytes", slow_down)
        assert prepared.step("train") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert "train: AWS" in last
    assert "SlowDown" in last
    assert storage.try_read_bytes(f"{prepared.prefix}/train/result.json") is None
    assert train_only(prepared).status == "succeeded"
    assert len(runs(prepared)) == 1


def test_states_that_cannot_be_saved_do_not_end_a_training(
    prepared: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoints, "upload", full)
    prepared.checkpoint_seconds = 1e-9
    assert train_only(prepared).status == "succeeded"
    assert "could not be saved" in caplog.text


# --- Several trials ---------------------------------------------------------------------------


class Scripted:
    """XGBoost, but where the script has something for a maximum depth."""

    def __init__(self, script: Mapping[int, Exception]) -> None:
        self.script = script
        self.fitted: list[int] = []

    def fit(
        self, task: Task, train: Dataset, validation: Dataset, params: Mapping[str, Scalar], session: Session
    ) -> Fitted:
        depth = int(params["max_depth"])
        self.fitted.append(depth)
        if depth in self.script:
            raise self.script[depth]
        return XGBoost().fit(task, train, validation, params, session)


class Packed(Scripted):
    """The same, trained together."""

    def fit_together(
        self,
        task: Task,
        train: Dataset,
        validation: Dataset,
        params: Sequence[Mapping[str, Scalar]],
        sessions: Sequence[Session],
    ) -> Sequence[Fitted | Exception]:
        if isinstance(self.script.get(0), DeviceOutOfMemory):
            raise self.script[0]
        results: list[Fitted | Exception] = []
        for one, session in zip(params, sessions, strict=True):
            try:
                results.append(self.fit(task, train, validation, one, session))
            except Exception as error:
                results.append(error)
        return results


def depths(*wanted: int) -> list[Trial]:
    return [Trial(index=index, params={**SHORT, "max_depth": depth}) for index, depth in enumerate(wanted)]


@pytest.mark.parametrize("family", [Scripted, Packed])
def test_a_trial_that_fails_by_itself_does_not_sink_the_others(
    prepared: Run, family: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = {
        4: Diverged("loss is nan since step 3"),
        5: DeviceOutOfMemory("even 16 rows"),
        6: NonRetryableError("no such thing"),
    }
    monkeypatch.setattr(train, "load_family", lambda spec: family(script))
    prepared.trials = depths(3, 4, 5, 6, 7, 0)
    result = prepared.done("train")
    assert [trial.trial for trial in result.trials] == [0, 1, 2, 3, 4, 5]
    assert [trial.status for trial in result.trials] == [
        "succeeded",
        "failed",
        "failed",
        "failed",
        "succeeded",
        "failed",
    ]
    assert result.trials[1].reason == "loss is nan since step 3"
    assert "trials.5.params.max_depth: must be at least 1" in result.trials[5].reason
    found = {run.data.tags["trial"]: run for run in runs(prepared)}
    assert {trial: run.info.status for trial, run in found.items()} == {
        "0": "FINISHED", "1": "FAILED", "2": "FAILED", "3": "FAILED", "4": "FINISHED", "5": "FAILED",
    }  # fmt: skip
    assert found["1"].data.tags["reason"] == "loss is nan since step 3"
    alone = prepared.name
    prepared.trials = [prepared.trials[4].model_copy(update={"index": 0})]
    again = only(prepared.done("train", "alone"))
    assert again.model_digest == result.trials[4].model_digest, alone


def test_a_pod_whose_only_trial_diverges_has_a_result(prepared: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "load_family", lambda spec: Scripted({3: Diverged("loss is inf")}))
    assert (train_only(prepared).status, train_only(prepared).reason) == ("failed", "loss is inf")
    (found,) = runs(prepared)
    assert (found.info.status, found.data.tags["reason"]) == ("FAILED", "loss is inf")


def test_a_pod_that_goes_on_trains_only_what_is_left(prepared: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    family = Scripted({4: RuntimeError("the node went away"), 5: Diverged("no")})
    monkeypatch.setattr(train, "load_family", lambda spec: family)
    prepared.trials = depths(3, 5, 4)
    with pytest.raises(RuntimeError):
        prepared.step("train")
    family.script = {}
    result = prepared.done("train")
    assert family.fitted == [3, 5, 4, 4]
    assert [trial.status for trial in result.trials] == ["succeeded", "failed", "succeeded"]
    assert len(runs(prepared)) == 3


def test_trials_that_do_not_fit_the_device_together_are_trained_one_by_one(
    prepared: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "load_family", lambda spec: Packed({0: DeviceOutOfMemory("too many")}))
    prepared.trials = depths(3, 4)
    assert [trial.status for trial in prepared.done("train").trials] == ["succeeded", "succeeded"]
    assert [found.info.status for found in runs(prepared)] == ["FINISHED", "FINISHED"]


# --- Budget -----------------------------------------------------------------------------------


def test_trials_beyond_the_budget_are_skipped_or_stopped(prepared: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "GPU-1,GPU-2")
    prepared.trials = depths(3, 4)
    prepared.search = Search(maximum_gpu_hours=1e-9)
    stopped, skipped = prepared.done("train", "train/000").trials
    assert (stopped.status, skipped.status) == ("skipped", "skipped")
    assert "stopped after step 0: search.maximum_gpu_hours: the run has used" in stopped.reason
    assert stopped.gpu_seconds == pytest.approx(2 * stopped.fit_seconds)
    assert skipped.run_id is None
    assert [found.info.status for found in runs(prepared)] == ["KILLED"]
    # Another pod sees what this one has used.
    prepared.trials = [Trial(index=2, params=SHORT)]
    assert prepared.done("train", "train/001").trials[0].run_id is None


def test_a_study_without_its_database_is_told(prepared: Run, capsys: pytest.CaptureFixture[str]) -> None:
    prepared.search = Search(pruning=True)
    assert "study_database: not set" in prepared.refused("train").message

    def nobody(_: object) -> None:
        raise UnavailableError("study database db:5432/studies: connection refused")

    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(train, "connect", nobody)
        assert prepared.step("train") == 1
    assert capsys.readouterr().err.splitlines()[-1] == "train: study database db:5432/studies: connection refused"
