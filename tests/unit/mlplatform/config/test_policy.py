"""What a policy may say, and whose word counts: the dataset's, the environment's, the run's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlplatform.config import loading
from mlplatform.config.base import LOWER_IS_BETTER
from mlplatform.config.dataset import ModelConfig
from mlplatform.config.environment import Settings
from mlplatform.config.loading import load_model, load_settings, model_names
from mlplatform.config.policy import Guards, Policy
from mlplatform.errors import ConfigError
from mlplatform.promotion.gate import decide
from mlplatform.training.request import check_request
from tests.unit.mlplatform.evaluations import evaluation, validation

ROOT = Path(__file__).parents[4]
WRITTEN = "policy: {minimum_quality: 0.6, comparison: {margin: 0.01}}"
PARAMS: dict[str, Any] = {
    "dataset": "parcels",
    "family": "xgboost",
    "trials": 3,
    "search": "random",
    "device": "auto",
    "seed": 0,
    "wait_for_new_data": True,
}


def write(bundle: Path, policy: str) -> None:
    path = bundle / "config/models/parcels.yaml"
    text = path.read_text()
    assert WRITTEN in text
    path.write_text(text.replace(WRITTEN, f"policy: {policy}"))


def effective(settings: Settings, policy: Guards | None = None, **params: Any) -> Policy:
    own = settings.model_copy(update={"policy": policy or Guards()})
    return check_request(own, {**PARAMS, **params}).policy


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("{}", "policy.minimum_quality: Field required"),
        ("{minimum_quality: .nan}", "policy.minimum_quality: Input should be a finite number"),
        ("{minimum_quality: .inf}", "policy.minimum_quality: Input should be a finite number"),
        (
            "{minimum_quality: 1.2}",
            "policy.minimum_quality: no model can pass: roc_auc is never above 1 (got 1.2)",
        ),
        (
            "{minimum_quality: 0.6, cold_start: {minimum_quality: 1.5}}",
            "policy.cold_start.minimum_quality: no model can pass: roc_auc is never above 1 (got 1.5)",
        ),
        (
            "{minimum_quality: 0.6, cold_start: {minimum_quality: 0.5}}",
            "policy.cold_start.minimum_quality: a first model of 0.5 would not be as good as minimum_quality (0.6)",
        ),
        (
            "{minimum_quality: 0.6, comparison: {margin: 0.5}}",
            "policy.comparison.margin: no model can pass: roc_auc is never above 1, so nothing is better by 0.5 than a "
            "champion of minimum_quality (0.6)",
        ),
        ("{minimum_quality: 0.6, comparison: {margin: -0.1}}", "policy.comparison.margin: Input should be greater"),
        ("{minimum_quality: 0.6, comparison: {margin: .nan}}", "policy.comparison.margin: Input should be a finite"),
        ("{minimum_quality: 0.6, comparison: {level: 95}}", "policy.comparison.level: Input should be less than"),
        ("{minimum_quality: 0.6, comparison: {level: 0.5}}", "policy.comparison.level: Input should be greater than"),
        ("{minimum_quality: 0.6, comparison: {kind: better}}", "policy.comparison.kind: Input should be 'improvement'"),
        ("{minimum_quality: 0.6, slices: {minimum_rows: 10}}", "policy.slices.minimum_rows: Input should be greater"),
        (
            "{minimum_quality: 0.6, comparison: {kind: non-inferiority, margin: 0.05}, slices: {maximum_loss: 0.01}}",
            "policy.slices.maximum_loss: 0.01 allows a category less than comparison.margin (0.05) allows the whole",
        ),
        (
            "{minimum_quality: 0.6, cold_start: {approval: automatic}}",
            "policy.cold_start.approval: automatic, while approval is manual",
        ),
        ("{minimum_quality: 0.6, calibration: {maximum_error: 0}}", "policy.calibration.maximum_error: Input should"),
        ("{minimum_quality: 0.6, latency: {maximum_single_ms: 0}}", "policy.latency.maximum_single_ms: Input should"),
        ("{minimum_quality: 0.6, maximum_model_mib: 0}", "policy.maximum_model_mib: Input should be greater than 0"),
        ("{minimum_quality: 0.6, data_quality: {drift: warn}}", "policy.data_quality.drift: Input should be 'allow'"),
        (
            "{minimum_quality: 0.6, minimum_improvement: 0}",
            "policy.minimum_improvement: Extra inputs are not permitted",
        ),
    ],
)
def test_a_policy_that_cannot_be_is_refused_by_file_and_key(bundle: Path, policy: str, message: str) -> None:
    write(bundle, policy)
    with pytest.raises(ConfigError) as refused:
        load_model("parcels")
    assert f"config/models/parcels.yaml: {message}" in str(refused.value)


@pytest.mark.parametrize(
    ("metric", "quality", "allowed"),
    [("log_loss", 0.5, True), ("log_loss", 0.0, True), ("log_loss", -0.1, False), ("roc_auc", 1.0, True)],
)
def test_the_best_that_a_metric_can_be_depends_on_its_direction(metric: str, quality: float, allowed: bool) -> None:
    policy = Policy(minimum_quality=quality)
    if allowed:
        policy.check(metric)
        return
    with pytest.raises(
        ValueError, match=r"minimum_quality: no model can pass: log_loss is never below 0 \(got -0\.1\)"
    ):
        policy.check(metric)


def test_a_first_model_may_be_asked_for_more_but_not_for_less_of_a_loss() -> None:
    Policy.model_validate({"minimum_quality": 0.5, "cold_start": {"minimum_quality": 0.4}}).check("log_loss")
    with pytest.raises(ValueError, match=r"cold_start\.minimum_quality: a first model of 0\.6"):
        Policy.model_validate({"minimum_quality": 0.5, "cold_start": {"minimum_quality": 0.6}}).check("log_loss")


def test_a_margin_up_to_perfection_can_be_passed() -> None:
    policy = Policy.model_validate({"minimum_quality": 0.5, "comparison": {"margin": 0.5}})
    policy.check("roc_auc")
    Policy.model_validate({"minimum_quality": 0.5, "comparison": {"kind": "non-inferiority", "margin": 3}}).check("mae")


def test_a_calibration_limit_is_for_binary_tasks(bundle: Path) -> None:
    path = bundle / "config/models/parcels.yaml"
    text = path.read_text().replace("task: binary", "task: regression").replace("metric: roc_auc", "metric: mae")
    text = text.replace("  linear: {}\n  net: {}\n", "")
    path.write_text(text)
    assert load_model("parcels").policy.calibration is not None, "as everywhere, where nobody asked for it"
    path.write_text(text.replace(WRITTEN, "policy: {minimum_quality: 5, calibration: {maximum_error: 0.1}}"))
    with pytest.raises(ConfigError, match=r"parcels\.yaml: policy\.calibration: only a binary task has"):
        load_model("parcels")


def test_the_environment_s_word_counts_over_the_dataset_s(settings: Settings) -> None:
    dev = Guards.model_validate({"approval": "automatic", "cold_start": {"approval": "automatic"}, "latency": None})
    policy = effective(settings, dev)
    assert (policy.approval, policy.cold_start.approval, policy.latency) == ("automatic", "automatic", None)
    assert (policy.minimum_quality, policy.comparison.margin) == (0.6, 0.01), "what it says nothing of stays"
    assert effective(settings).approval == "manual"


def test_production_asks_a_person_whatever_a_dataset_says(bundle: Path) -> None:
    write(bundle, "{minimum_quality: 0.6, approval: automatic, cold_start: {approval: automatic}}")
    (bundle / "config/prod.yaml").write_text((ROOT / "config/prod.yaml").read_text())
    platform = json.loads((bundle / "platform.json").read_text())
    (bundle / "platform.json").write_text(json.dumps({**platform, "environment": "prod"}))
    policy = check_request(load_settings(bundle), PARAMS).policy
    assert (policy.approval, policy.cold_start.approval) == ("manual", "manual")


def test_an_environment_s_mistake_is_refused(bundle: Path) -> None:
    path = bundle / "config/local.yaml"
    path.write_text(path.read_text().replace("  approval: automatic\n", "  approval: never\n"))
    with pytest.raises(ConfigError, match=r"config/local\.yaml \+ platform\.json: policy\.approval: Input should be"):
        load_settings(bundle)


def test_what_contradicts_itself_only_together_names_both_files(settings: Settings) -> None:
    half = Guards.model_validate({"cold_start": {"approval": "automatic"}})
    with pytest.raises(
        ConfigError, match=r"config/models/parcels\.yaml and config/local\.yaml, .*: policy\.cold_start\.approval"
    ):
        effective(settings, half)


@pytest.mark.parametrize(
    ("least", "kind", "margin"),
    [
        (0.02, "improvement", 0.02),
        (0.0, "non-inferiority", 0.0),
        (-1.0, "non-inferiority", 1.0),
        (None, "improvement", 0.01),
    ],
)
def test_what_a_run_asks_of_the_comparison(settings: Settings, least: float | None, kind: str, margin: float) -> None:
    policy = effective(settings, minimum_improvement=least)
    assert (policy.comparison.kind, policy.comparison.margin) == (kind, margin)
    assert policy.comparison.judged_on == "interval"
    assert policy.maximum_slice_loss == (margin if kind == "non-inferiority" else 0.0)


def test_a_loss_that_a_run_allows_the_whole_is_allowed_a_category(settings: Settings) -> None:
    own = Guards.model_validate({"slices": {"maximum_loss": 0.05, "level": 0.9}})
    assert effective(settings, own, minimum_improvement=-0.02).maximum_slice_loss == 0.05
    loose = effective(settings, own, minimum_improvement=-0.2)
    assert loose.maximum_slice_loss == 0.2
    assert loose.slices is not None
    assert loose.slices.level == 0.9, "the rest of it stays"
    off = Guards.model_validate({"slices": None})
    assert effective(settings, off, minimum_improvement=-0.2).slices is None


def test_a_quality_that_a_run_asks_for_holds_for_a_first_model_too(settings: Settings) -> None:
    own = Guards.model_validate({"cold_start": {"minimum_quality": 0.7}})
    policy = effective(settings, own, minimum_quality=0.8)
    assert (policy.minimum_quality, policy.cold_start.minimum_quality) == (0.8, None)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"minimum_quality": float("nan")}, "parameters of the run: minimum_quality: Input should be a finite number"),
        ({"minimum_improvement": float("inf")}, "parameters of the run: minimum_improvement: Input should be a finite"),
        ({"minimum_quality": 2}, "policy.minimum_quality: no model can pass"),
        ({"minimum_improvement": 0.9}, "policy.comparison.margin: no model can pass"),
    ],
)
def test_a_run_s_threshold_that_cannot_be_is_refused(settings: Settings, params: Any, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        effective(settings, **params)
    assert message in str(refused.value)


@pytest.mark.parametrize("environment", ["local", "dev", "staging", "prod"])
def test_every_dataset_s_policy_is_valid_in_every_environment(environment: str) -> None:
    overlay = yaml.safe_load((ROOT / "config" / f"{environment}.yaml").read_text())["policy"]
    for name in model_names(ROOT):
        model = loading.read_document(ROOT / f"config/models/{name}.yaml", name, ModelConfig)
        policy = Policy.model_validate(loading.merge(model.policy.model_dump(exclude_unset=True), overlay))
        policy.check(model.metric)
        expected = "manual" if environment in ("staging", "prod") else "automatic"
        assert (policy.approval, policy.cold_start.approval) == (expected, expected)
        assert policy.comparison.judged_on == "interval"


@pytest.mark.parametrize(("name", "rows"), [("iris", 26), ("titanic", 180), ("housing", 150), ("flights", 3000)])
def test_an_example_s_later_model_can_replace_the_first_one(name: str, rows: int) -> None:
    """With as many held-out rows as the example has."""
    model = loading.read_document(ROOT / f"config/models/{name}.yaml", name, ModelConfig)
    policy, metric = model.policy, model.metric
    champion = policy.minimum_quality * (0.9 if metric in LOWER_IS_BETTER else 1.1)

    def outcome(candidate: float) -> str:
        judged = evaluation(candidate, champion, metric=metric, rows=rows, spread=policy.comparison.margin / 2)
        return decide(judged, validation(), policy, model.task, metric).outcome

    lost = policy.comparison.margin * (1 if metric in LOWER_IS_BETTER else -1)
    assert outcome(champion) == "needs-approval", "as good as the champion"
    assert outcome(champion + lost) == "reject", "perhaps worse than is allowed"
