"""Every mistake people make in a configuration, or in the form of a run, and the one message they get for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlplatform.config import loading
from mlplatform.config.environment import Settings, StudyDatabase
from mlplatform.config.loading import load_model
from mlplatform.errors import ConfigError
from mlplatform.training.request import check_request

MODEL = "config/models/parcels.yaml"
PARAMS: dict[str, Any] = {
    "dataset": "parcels",
    "family": "xgboost",
    "trials": 3,
    "search": "random",
    "device": "auto",
    "seed": 0,
    "wait_for_new_data": True,
    "minimum_quality": None,
    "minimum_improvement": None,
}

IN_A_MODEL = {
    "another-name": (
        ("name: parcels", "name: letters"),
        "name: must be 'parcels' as the file's (got 'letters')",
    ),
    "no-trigger": (
        ("trigger: true, ", ""),
        "tables: exactly one of them needs `trigger: true`, the one whose files start a run (got none)",
    ),
    "two-triggers": (
        ("depots: {", "depots: {trigger: true, "),
        "tables: exactly one of them needs `trigger: true`, the one whose files start a run (got depots, parcels)",
    ),
    "target-among-features": (
        ("target: late", "target: weight"),
        "features.weight: the target cannot be a feature (it would leak the answer)",
    ),
    "target-among-references": (
        ("target: late", "target: late\nreferences: [late]"),
        "references: 'late' is the target, which is kept beside an example anyway",
    ),
    "reference-among-features": (
        ("target: late", "target: late\nreferences: [weight]"),
        "features.weight: a reference column cannot be a feature",
    ),
    "slice-that-is-no-category": (
        ("target: late", "target: late\nslices: [weight]"),
        "slices: 'weight' is not a category feature",
    ),
    "metric-of-another-task": (
        ("metric: roc_auc", "metric: rmse"),
        "metric: a binary task has no 'rmse': choose from roc_auc, average_precision, log_loss, brier_score, accuracy",
    ),
    "unknown-metric": (
        ("metric: roc_auc", "metric: auc"),
        "metric: Input should be 'roc_auc', 'average_precision', 'log_loss', 'brier_score', 'accuracy', 'macro_f1', "
        "'rmse', 'mae' or 'r2' (got 'auc')",
    ),
    "unknown-task": (
        ("task: binary", "task: ranking"),
        "task: Input should be 'binary', 'multiclass' or 'regression' (got 'ranking')",
    ),
    "unknown-split": (
        ("kind: time", "kind: year"),
        "split: Input tag 'year' found using 'kind' does not match any of the expected tags: 'time', 'random', 'group'",
    ),
    "days-below-one": (
        ("test_days: 2", "test_days: 0"),
        "split.test_days: Input should be greater than or equal to 1 (got 0)",
    ),
    "no-column-to-split-by": (("column: day, ", ""), "split.column: Field required"),
    "no-metric": (("metric: roc_auc\n", ""), "metric: Field required"),
    "unknown-key": (
        ("target: late", "target: late\nlabel: late"),
        "label: Extra inputs are not permitted (got 'late')",
    ),
    "unknown-type-of-column": (
        ("late: {type: integer}", "late: {type: int}"),
        "tables.parcels.columns.late.type: Input should be 'integer', 'number', 'string', 'boolean' or 'timestamp' "
        "(got 'int')",
    ),
    "unknown-family": (
        ("  net: {}", "  catboost: {}"),
        "families.catboost: no such family in config/families: choose from counts, linear, net, xgboost",
    ),
    "family-of-another-task": (("  net: {}", "  counts: {}"), "families.counts: does regression tasks, not binary"),
    "unknown-parameter": (
        ("max_bin: 64", "max_bins: 64"),
        "families.xgboost.params.max_bins: xgboost has no such parameter: depth, max_bin, rate",
    ),
    "parameter-of-the-wrong-type": (
        ("max_bin: 64", "max_bin: many"),
        "families.xgboost.params.max_bin: must be an integer (got 'many')",
    ),
    "parameter-that-is-a-list": (
        ("max_bin: 64", "max_bin: [64]"),
        "families.xgboost.params.max_bin: Input should be a valid boolean or Input should be a valid integer or "
        "Input should be a valid number or Input should be a valid string",
    ),
    "parameter-out-of-range": (
        ("max_bin: 64", "max_bin: 1"),
        "families.xgboost.params.max_bin: must be at least 2 (got 1)",
    ),
    "parameter-that-is-no-choice": (
        ("linear: {}", "linear: {params: {penalty: l3}}"),
        "families.linear.params.penalty: must be one of l1, l2 (got 'l3')",
    ),
    "ends-the-wrong-way-round": (
        ("high: 4", "high: 2"),
        "families.xgboost.search.depth: low (2) must be below high (2)",
    ),
    "logarithm-of-nothing": (
        ("low: 0.01", "low: 0"),
        "families.xgboost.search.rate: a logarithmic scale needs low above 0, not 0",
    ),
    "search-outside-of-what-is-allowed": (
        ("high: 1.0, scale: log", "high: 3.0, scale: log"),
        "families.xgboost.search.rate.high: must be at most 1 (got 3.0)",
    ),
    "search-for-a-fraction-of-a-level": (
        ("high: 4, integer: true", "high: 4"),
        "families.xgboost.search.depth.integer: must be true, as depth is of type integer",
    ),
    "range-between-whole-numbers": (
        ("low: 2, high: 4", "low: 2.5, high: 4"),
        "families.xgboost.search.depth.low: must be an integer (got 2.5)",
    ),
    "range-of-words": (
        ("linear: {}", "linear: {search: {penalty: {low: 1, high: 2}}}"),
        "families.linear.search.penalty: a string has no range; give a list of values",
    ),
    "grid-of-one-point": (
        ("high: 4, integer", "high: 4, points: 1, integer"),
        "families.xgboost.search.depth.points: Input should be greater than or equal to 2 (got 1)",
    ),
    "one-end-only": (("low: 2, high: 4", "low: 2"), "families.xgboost.search.depth.high: Field required"),
    "no-values": (
        ("linear: {}", "linear: {search: {penalty: []}}"),
        "families.linear.search.penalty: List should have at least 1 item after validation, not 0",
    ),
    "a-value-twice": (
        ("linear: {}", "linear: {search: {penalty: [l1, l1]}}"),
        "families.linear.search.penalty: a value is there twice",
    ),
    "search-over-what-is-fixed": (
        ("max_bin: 64", "depth: 3"),
        "families.xgboost: depth is fixed in params and searched in search; keep one",
    ),
}


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("mistake", IN_A_MODEL)
def test_a_mistake_in_a_model_is_told_once_with_file_and_key(bundle: Path, mistake: str) -> None:
    (old, new), message = IN_A_MODEL[mistake]
    change(bundle / MODEL, old, new)
    with pytest.raises(ConfigError) as refused:
        load_model("parcels", bundle)
    assert str(refused.value) == f"{MODEL}: {message}"


@pytest.mark.parametrize("name", ["labels", "quarantine"])
def test_a_dataset_is_not_named_like_a_folder_with_another_use(bundle: Path, name: str) -> None:
    text = (bundle / MODEL).read_text().replace("name: parcels", f"name: {name}", 1)
    (bundle / f"config/models/{name}.yaml").write_text(text)
    with pytest.raises(ConfigError, match=f"{name}.yaml: name: '{name}' is a folder of the landing bucket"):
        load_model(name)


def test_several_mistakes_are_told_at_once(bundle: Path) -> None:
    change(bundle / MODEL, "metric: roc_auc", "metric: auc")
    change(bundle / MODEL, "test_days: 2", "test_days: two")
    with pytest.raises(ConfigError) as refused:
        load_model("parcels", bundle)
    assert [line.split(": ")[1] for line in str(refused.value).splitlines()] == ["split.test_days", "metric"]


IN_A_FAMILY = {
    "another-name": (("name: xgboost", "name: trees"), "name: must be 'xgboost' as the file's (got 'trees')"),
    "default-out-of-range": (("default: 6", "default: 60"), "parameters.depth.default: must be at most 16 (got 60)"),
    "search-of-an-unknown-parameter": (
        ("  depth: {low", "  levels: {low"),
        "search.levels: xgboost has no such parameter: depth, max_bin, rate",
    ),
    "unknown-device": (("[cpu, cuda]", "[cpu, tpu]"), "devices.1: Input should be 'cpu' or 'cuda' (got 'tpu')"),
}


@pytest.mark.parametrize("mistake", IN_A_FAMILY)
def test_a_mistake_in_a_family_is_told_with_file_and_key(bundle: Path, mistake: str) -> None:
    (old, new), message = IN_A_FAMILY[mistake]
    change(bundle / "config" / "families" / "xgboost.yaml", old, new)
    with pytest.raises(ConfigError) as refused:
        load_model("parcels", bundle)
    assert str(refused.value) == f"config/families/xgboost.yaml: {message}"


IN_A_RUN: dict[str, tuple[dict[str, Any], str]] = {
    "unknown-dataset": ({"dataset": "iris"}, "dataset 'iris' is not configured: config/models has parcels"),
    "family-the-dataset-has-not": (
        {"family": "counts"},
        "family: 'counts' is not configured for the dataset 'parcels' "
        "(config/models/parcels.yaml: families has linear, net, xgboost)",
    ),
    "words-for-numbers": (
        {"trials": "many"},
        "parameters of the run: trials: Input should be a valid integer, unable to parse string as an integer "
        "(got 'many')",
    ),
    "unknown-search": (
        {"search": "annealing"},
        "parameters of the run: search: Input should be 'grid', 'random' or 'bayesian' (got 'annealing')",
    ),
    "more-trials-than-allowed": (
        {"trials": 257},
        "trials: must be from 1 to 256, training.search.maximum_trials of the environment local (got 257)",
    ),
    "no-trials": (
        {"trials": 0},
        "trials: must be from 1 to 256, training.search.maximum_trials of the environment local (got 0)",
    ),
    "grid-larger-than-asked-for": (
        {"search": "grid", "trials": 8},
        "config/models/parcels.yaml: families.xgboost.search: its grid has 9 points (depth 3 x rate 3), more than "
        "trials (8); ask for 9 trials, search fewer parameters or values, or take another search",
    ),
    "grid-of-a-family-s-own-space": (
        {"search": "grid", "trials": 8, "family": "net"},
        "config/families/net.yaml: search: its grid has 9 points (dropout 3 x width 3), more than trials (8); "
        "ask for 9 trials, search fewer parameters or values, or take another search",
    ),
    "learning-without-a-database": (
        {"search": "bayesian"},
        "search: 'bayesian' needs a database for what trials learn of each other; the environment local has no "
        "training.study_database",
    ),
    "cuda-for-a-family-without": (
        {"device": "cuda", "family": "linear"},
        "device: 'cuda' is not for the family linear, which computes on cpu (config/families/linear.yaml: devices); "
        "take auto or cpu",
    ),
}


@pytest.mark.parametrize("mistake", IN_A_RUN)
def test_a_request_that_cannot_be_done_is_refused(settings: Settings, mistake: str) -> None:
    params, message = IN_A_RUN[mistake]
    with pytest.raises(ConfigError) as refused:
        check_request(settings, {**PARAMS, **params})
    assert str(refused.value) == message


def test_a_parameter_that_is_missing_is_named(settings: Settings) -> None:
    with pytest.raises(ConfigError) as refused:
        check_request(settings, {name: value for name, value in PARAMS.items() if name != "seed"})
    assert str(refused.value) == "parameters of the run: seed: Field required"


def with_training(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"training": settings.training.model_copy(update=changes)})


def without_gpus(settings: Settings) -> Settings:
    train = settings.steps["train"].model_copy(update={"gpus": 0})
    return settings.model_copy(update={"steps": settings.steps | {"train": train}})


def test_cuda_without_a_gpu_is_refused(settings: Settings) -> None:
    with pytest.raises(ConfigError) as refused:
        check_request(without_gpus(settings), {**PARAMS, "device": "cuda"})
    assert str(refused.value) == (
        "device: 'cuda' needs a GPU, and the training pods of the environment local have none "
        "(steps.train.gpus is 0); take auto or cpu"
    )
    check_request(without_gpus(settings), PARAMS)
    check_request(settings, {**PARAMS, "device": "cuda"})


def test_cuda_without_gpu_nodes_is_refused(settings: Settings) -> None:
    kubernetes = settings.kubernetes.model_copy(update={"gpus": False})
    without = settings.model_copy(update={"kubernetes": kubernetes})
    with pytest.raises(ConfigError, match=r"have none \(its cluster has no GPU nodes, docs/training.md\); take auto"):
        check_request(without, {**PARAMS, "device": "cuda"})
    check_request(without, PARAMS)


def test_pruning_without_a_database_is_refused(settings: Settings) -> None:
    pruning = with_training(settings, search=settings.training.search.model_copy(update={"pruning": True}))
    with pytest.raises(ConfigError) as refused:
        check_request(pruning, PARAMS)
    assert str(refused.value) == (
        "training.search.pruning needs a database for what trials learn of each other; the environment local has no "
        "training.study_database"
    )
    database = StudyDatabase(host="h", name="studies")
    checked = check_request(with_training(pruning, study_database=database), {**PARAMS, "search": "bayesian"})
    assert (checked.search.method, checked.search.pruning) == ("bayesian", True)


def test_more_pods_for_a_trial_are_refused_where_its_family_cannot_use_them(settings: Settings) -> None:
    several = with_training(settings, pods_per_trial=2)
    assert check_request(several, {**PARAMS, "family": "net"}).family.distributed
    with pytest.raises(ConfigError) as refused:
        check_request(several, PARAMS)
    assert str(refused.value) == (
        "training.pods_per_trial: a trial of the family xgboost cannot train over 2 pods "
        "(config/families/xgboost.yaml: distributed); set it to 1, or take a family that can: net"
    )


def test_more_pods_for_a_trial_and_more_trials_for_a_pod_are_refused(settings: Settings) -> None:
    search = settings.training.search.model_copy(update={"trials_per_pod": 4})
    with pytest.raises(ConfigError) as refused:
        check_request(with_training(settings, pods_per_trial=2, search=search), {**PARAMS, "family": "net"})
    assert str(refused.value) == (
        "training.search.trials_per_pod: 4 trials cannot share a pod where one trains over 2 "
        "(training.pods_per_trial); set one of the two to 1"
    )


def test_what_can_be_done_is_returned_with_its_configuration(settings: Settings) -> None:
    checked = check_request(settings, {**PARAMS, "search": "grid", "trials": 9, "something": "else"})
    assert checked.model == load_model("parcels")
    assert checked.family == loading.load_family("xgboost")
    assert checked.search == settings.training.search.model_copy(update={"method": "grid"})


def test_an_unknown_family_is_refused_with_those_there_are(bundle: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        loading.load_family("prophet", bundle)
    assert str(refused.value) == (
        "family 'prophet' is not in config/families: choose from counts, linear, net, xgboost"
    )
