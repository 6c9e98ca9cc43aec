"""What is learned, how it is saved, and that the same arguments give the same model."""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from helpers import CLASSES, ROOT, Case, Keeper, model_bytes, params

from mlplatform.config.base import METRICS, TaskKind
from mlplatform.config.loading import load_family
from mlplatform.errors import NonRetryableError
from modelformat import Predictor
from trainer import families, metrics
from trainer.data import Dataset
from trainer.families.pytorch import FAMILY, network, stack
from trainer.families.pytorch.family import Pytorch
from trainer.families.pytorch.params import Params
from trainer.session import DeviceOutOfMemory, Diverged, NoSession

KINDS: list[TaskKind] = ["binary", "multiclass", "regression"]


def fit(case: Case, **chosen: Any) -> Any:
    return FAMILY.fit(case.task, case.train, case.validation, params(**chosen), NoSession())


def score(case: Case, fitted: Any) -> float:
    value = metrics.score_all(case.task.kind, case.validation.target, fitted.predict_encoded(case.encoded()))[
        case.task.metric
    ]
    assert value is not None
    return value


def test_the_catalogue_names_this_family_and_its_parameters() -> None:
    spec = load_family("pytorch", ROOT)
    assert families.load_family(spec) is FAMILY
    assert [field.name for field in dataclasses.fields(Params)] == list(spec.parameters)


@pytest.mark.parametrize("kind", KINDS)
def test_learns_what_features_only_tell_together(kind: TaskKind) -> None:
    case = Case(kind, 2000)
    found = score(case, fit(case, epochs=12, dropout=0.0))
    # The depot turns the sign of the height's effect: without it the height says nothing.
    blind = Case(kind, 2000)
    blind.task = dataclasses.replace(
        blind.task, features={name: one for name, one in case.task.features.items() if name != "depot"}
    )
    without = score(blind, fit(blind, epochs=12, dropout=0.0))
    if kind == "binary":
        assert 1 - found < (1 - without) / 3
    else:
        assert found < 0.7 * without


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_each_optimiser_learns(optimizer: str) -> None:
    case = Case()
    rate = 0.05 if optimizer == "sgd" else 0.01
    assert score(case, fit(case, optimizer=optimizer, learning_rate=rate, epochs=8)) > 0.9


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 3])
def test_the_saved_graph_predicts_what_torch_does(kind: TaskKind, layers: int, tmp_path: Path) -> None:
    case = Case(kind, 300)
    fitted = fit(case, epochs=2, layers=layers)
    fitted.save(tmp_path)
    predictor = Predictor.load(tmp_path)
    columns = {name: values.copy() for name, values in case.validation.columns.items()}
    columns["depot"][:5] = "never seen"
    columns["route"][5:9] = None
    columns["weight"][9:12] = np.nan
    columns["height"][12] = 1e30  # further out than any in training, and yet a finite answer
    encoded = predictor.encoder.encode(columns)
    assert np.isnan(encoded).any()
    expected, found = fitted.predict_encoded(encoded), predictor.predict(columns)
    assert found.shape == expected.shape
    assert np.isfinite(found).all()
    scale = 50.0 if kind == "regression" else 1.0  # of the standardised target
    assert np.abs(found - expected).max() / scale < 1e-5
    assert predictor.manifest.classes == CLASSES[kind]
    assert (predictor.manifest.engine, predictor.manifest.family) == ("onnx", "pytorch")
    model = onnx.load(tmp_path / "model.onnx")
    assert (model.opset_import[0].version, model.ir_version) == (18, 9)


def test_missing_and_unknown_categories_are_the_same_to_the_model(tmp_path: Path) -> None:
    case = Case(rows=300)
    fit(case, epochs=2).save(tmp_path)
    predictor = Predictor.load(tmp_path)
    row: dict[str, Any] = {"height": [50.0, 50.0, 50.0], "weight": [4.0] * 3, "route": ["r03"] * 3}
    missing, unknown, known = predictor.predict({**row, "depot": [None, "elsewhere", "north"]})
    assert missing == unknown != known


def test_numbers_alone_and_categories_alone_are_enough() -> None:
    for names in (("height", "weight"), ("depot", "route")):
        case = Case("regression", 300)
        task = dataclasses.replace(case.task, features={name: case.task.features[name] for name in names})
        fitted = FAMILY.fit(task, case.train, case.validation, params(epochs=2), NoSession())
        assert set(fitted.importance) == set(names)
        assert math.isclose(sum(fitted.importance.values()), 1)


def test_a_regression_far_from_zero_keeps_its_digits(tmp_path: Path) -> None:
    case = Case("regression", 1000)
    shift = 1e9
    train, validation = (Dataset(one.columns, one.target + shift) for one in (case.train, case.validation))
    fitted = FAMILY.fit(case.task, train, validation, params(epochs=6), NoSession())
    fitted.save(tmp_path)
    predicted = Predictor.load(tmp_path).predict(validation.columns)
    assert np.sqrt(np.mean((predicted - validation.target) ** 2)) < 60  # float32 has steps of 64 there


def test_importance_finds_what_matters() -> None:
    case = Case("regression", 2000)
    noise = np.random.default_rng(3).normal(4, 2, case.train.rows)
    train = Dataset({**case.train.columns, "weight": noise}, 1000 + 10 * case.train.columns["height"])
    fitted = FAMILY.fit(case.task, train, case.validation, params(epochs=6), NoSession())
    assert fitted.importance["height"] > 0.7
    assert math.isclose(sum(fitted.importance.values()), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bits_and_another_does_not(kind: TaskKind, tmp_path: Path) -> None:
    first, second, other = (
        model_bytes(fit(Case(kind, 300, seed)), tmp_path / str(number)) for number, seed in enumerate((7, 7, 8))
    )
    assert first == second != other


def test_each_parameter_changes_the_model(tmp_path: Path) -> None:
    case = Case(rows=300)
    plain = model_bytes(fit(case), tmp_path / "plain")
    changes: dict[str, dict[str, Any]] = {
        "optimizer": {"optimizer": "adam"},
        "learning_rate": {"learning_rate": 0.02},
        "weight_decay": {"weight_decay": 0.5},
        "batch_size": {"batch_size": 32},
        "epochs": {"epochs": 1},
        "layers": {"layers": 3},
        "width": {"width": 17},
        "dropout": {"dropout": 0.3},
        "embedding_width": {"embedding_width": 3},
        "precision": {"precision": "bf16"},
    }
    for name, change in changes.items():
        assert model_bytes(fit(case, **change), tmp_path / name) != plain, name
    momenta = [
        model_bytes(fit(case, optimizer="sgd", momentum=value), tmp_path / str(value)) for value in (0.0, 0.5, 0.9)
    ]
    assert len(set(momenta)) == 3


def test_stops_early_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    case = Case(rows=200)
    keeper = Keeper(tmp_path / "state")
    chosen = params(epochs=60, patience=3, learning_rate=0.05, dropout=0.0)
    fitted = FAMILY.fit(case.task, case.train, case.validation, chosen, keeper)
    values = [one["roc_auc"] for one in keeper.metrics]
    assert len(values) < 60
    assert keeper.steps == list(range(len(values)))
    assert fitted.facts["best_epoch"] == np.argmax(values) == len(values) - 4
    assert score(case, fitted) == pytest.approx(max(values), abs=1e-6)
    assert set(keeper.metrics[0]) == {"roc_auc", "train_loss", "loss"}


def test_weight_decay_shrinks_weights_and_leaves_biases() -> None:
    case = Case(rows=300)
    strong = fit(case, weight_decay=1.0, learning_rate=0.1, epochs=6)
    weak = fit(case, weight_decay=0.0, learning_rate=0.1, epochs=6)
    norms = []
    for fitted in (strong, weak):
        views = fitted._shape.layout.views(fitted._weights.view(1, -1))
        norms.append((views["weight.1"].norm().item(), views["shift.1"].norm().item()))
    assert norms[0][0] < norms[1][0] / 2
    assert norms[0][1] > 0.05


@pytest.mark.parametrize("metric", [name for kind in KINDS for name in METRICS[kind]])
def test_every_metric_can_be_watched(metric: Any) -> None:
    kind = next(kind for kind in KINDS if metric in METRICS[kind])
    case = Case(kind, 200)
    case.task = dataclasses.replace(case.task, metric=metric)
    fitted = fit(case, epochs=5)
    values = [one[metric] for one in fitted.history]
    best = min(values) if metric in ("log_loss", "brier_score", "rmse", "mae") else max(values)
    assert values[int(fitted.facts["best_epoch"])] == best


def test_a_diverged_trial_says_when_and_what_to_do() -> None:
    with pytest.raises(Diverged, match=r"epoch \d+: the training loss is .*lower learning_rate \(it is 10\)"):
        fit(Case("regression"), optimizer="sgd", momentum=0.999, learning_rate=10.0, weight_decay=5.0, epochs=30)


def test_data_that_nothing_can_be_learned_from_is_refused() -> None:
    case = Case(rows=50)
    empty = Dataset({name: values[:0] for name, values in case.train.columns.items()}, case.train.target[:0])
    with pytest.raises(NonRetryableError, match="the train split has no rows"):
        FAMILY.fit(case.task, empty, case.validation, params(), NoSession())
    with pytest.raises(NonRetryableError, match="weights; a model file holds"):
        fit(case, width=16384, layers=16)


def test_a_batch_larger_than_the_data_and_a_single_row_are_trained_on() -> None:
    case = Case("regression", 65)
    assert math.isfinite(score(case, fit(case, batch_size=1024, epochs=1)))
    assert math.isfinite(score(case, fit(case, batch_size=64, epochs=1)))  # the remainder is one row


def test_a_column_without_a_value_is_trained_on() -> None:
    case = Case(rows=100)
    for split in (case.train, case.validation):
        split.columns["depot"][:] = None
        split.columns["weight"][:] = np.nan
    columns = dict(case.task.profile.columns)
    columns["depot"] = columns["depot"].model_copy(update={"counts": {}, "missing": 100})
    columns["weight"] = columns["weight"].model_copy(update={"mean": 0.0, "deviation": 0.0})
    case.task = dataclasses.replace(case.task, profile=case.task.profile.model_copy(update={"columns": columns}))
    assert np.isfinite(fit(case, epochs=1).predict_encoded(case.encoded())).all()


def test_threads_are_those_of_the_task() -> None:
    before = torch.get_num_threads()
    try:
        case = Case(rows=50)
        case.task = dataclasses.replace(case.task, threads=2)
        fit(case, epochs=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", KINDS)
def test_streamed_examples_give_the_same_bits_as_resident_ones(
    kind: TaskKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(kind, 1000)
    monkeypatch.setattr("trainer.families.pytorch.feed.CHUNK_BYTES", 200 * 20)  # a few batches each
    saved = []
    for resident in (True, False):
        fitted = Pytorch(resident).fit(case.task, case.train, case.validation, params(batch_size=60), NoSession())
        saved.append(model_bytes(fitted, tmp_path / str(resident)))
    assert saved[0] == saved[1]


class TooSmall:
    """A device whose memory holds so many rows at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
        self.largest = 0
        backward = stack.Stack._backward

        def limited(one: stack.Stack, batch: Any, divisor: int, first: bool) -> None:
            if len(batch) * len(one.weights) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory")
            self.largest = max(self.largest, len(batch))
            backward(one, batch, divisor, first)

        monkeypatch.setattr(stack.Stack, "_backward", limited)


def test_too_little_memory_for_a_batch_takes_it_in_parts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case("regression")
    whole = fit(case, batch_size=256, dropout=0.0, optimizer="sgd", epochs=2)
    small = TooSmall(monkeypatch, 100)
    with caplog.at_level(logging.WARNING):
        parts = fit(case, batch_size=256, dropout=0.0, optimizer="sgd", epochs=2)
    assert small.largest == 64
    assert [record.args for record in caplog.records] == [(256, 128, 256), (128, 64, 256)]
    # The same batches: only the sums are rounded differently.
    for one, other in zip(whole.history, parts.history, strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)


def test_too_little_memory_for_anything_fails_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    TooSmall(monkeypatch, 10)
    with pytest.raises(DeviceOutOfMemory, match=r"2 layers of 16 units .* even with 32 rows at a time; lower width"):
        fit(Case(), batch_size=256)


def test_too_little_memory_for_weights_fails_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("trainer.families.pytorch.training.Stack", no_room)
    with pytest.raises(DeviceOutOfMemory, match=r"does not hold the [\d,]+ weights of the network"):
        fit(Case())


def test_too_little_memory_in_prediction_takes_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case()
    expected = fit(case, epochs=1).history
    embed, sizes = network.Network.embed, []

    def limited(one: Any, weights: Any, numbers: Any, codes: Any) -> Any:
        if not torch.is_grad_enabled():
            if len(numbers) > 100:
                raise torch.OutOfMemoryError("CUDA out of memory")
            sizes.append(len(numbers))
        return embed(one, weights, numbers, codes)

    monkeypatch.setattr(network.Network, "embed", limited)
    found = fit(case, epochs=1).history
    assert max(sizes) > 32
    assert found[0]["roc_auc"] == expected[0]["roc_auc"]


# --- On a GPU ---------------------------------------------------------------------------------


@pytest.fixture
def gpu_case() -> Case:
    return Case("binary", 4000, device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["auto", "bf16", "fp32"])
def test_gpu_learns_in_every_precision(gpu_case: Case, precision: str) -> None:
    assert score(gpu_case, fit(gpu_case, precision=precision, epochs=8)) > 0.93


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_gpu_recorded_steps_give_what_single_ones_do(
    gpu_case: Case, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"precision": "fp32", "optimizer": optimizer, "epochs": 1, "dropout": 0.0}
    recorded = fit(gpu_case, **chosen).history[0]["train_loss"]
    monkeypatch.setattr(stack, "EAGER_STEPS", 10**9)
    assert fit(gpu_case, **chosen).history[0]["train_loss"] == pytest.approx(recorded, rel=1e-3)


@pytest.mark.gpu
def test_gpu_steps_are_recorded(gpu_case: Case, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fit(gpu_case, epochs=2)
        FAMILY.fit_together(
            gpu_case.task,
            gpu_case.train,
            gpu_case.validation,
            [params(dropout=0.1 * number) for number in range(4)],
            [NoSession()] * 4,
        )
    assert "cannot be recorded" not in caplog.text


@pytest.mark.gpu
def test_gpu_streamed_examples_give_what_resident_ones_do(gpu_case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.families.pytorch.feed.CHUNK_BYTES", 500 * 20)
    losses = [
        Pytorch(resident)
        .fit(gpu_case.task, gpu_case.train, gpu_case.validation, params(precision="fp32", epochs=2), NoSession())
        .history[0]["train_loss"]
        for resident in (True, False)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.gpu
def test_gpu_and_cpu_agree(gpu_case: Case) -> None:
    # Not more closely: each device draws the order of examples by itself.
    chosen = {"precision": "fp32", "optimizer": "sgd", "dropout": 0.0, "epochs": 4}
    assert score(gpu_case, fit(gpu_case, **chosen)) == pytest.approx(
        score(gpu_case, fit(Case("binary", 4000), **chosen)), abs=0.02
    )
