"""What a dataset says of how it is run: whose word counts, and what it may not say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlplatform.config.loading import (
    default_family,
    enabled_datasets,
    load_dataset,
    load_model,
    load_settings,
    merge,
    starts_paused,
)
from mlplatform.errors import ConfigError

MODEL = "config/models/parcels.yaml"


def add(file: Path, content: dict[str, Any]) -> None:
    """Lay content over what a YAML or JSON file has."""
    merged = merge(yaml.safe_load(file.read_text()), content)
    file.write_text(json.dumps(merged) if file.suffix == ".json" else yaml.safe_dump(merged, sort_keys=False))


def say(bundle: Path, **content: Any) -> None:
    add(bundle / MODEL, content)


def refusal(bundle: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        load_dataset("parcels", bundle)
    return str(refused.value)


def test_a_dataset_that_says_nothing_has_the_environment_s_settings(bundle: Path) -> None:
    dataset = load_dataset("parcels")
    assert (dataset.name, dataset.enabled) == ("parcels", True)
    assert dataset.settings == load_settings()
    assert dataset.model == load_model("parcels")


@pytest.mark.parametrize("said", range(1, 6))
def test_the_nearest_word_counts(bundle: Path, said: int) -> None:
    layers: list[tuple[str, Any]] = [
        ("config/base.yaml", lambda content: content),
        ("config/local.yaml", lambda content: content),
        ("platform.json", lambda content: content),
        (MODEL, lambda content: {"settings": content}),
        (MODEL, lambda content: {"environments": {"local": {"settings": content}}}),
    ]
    for seed, (file, at) in enumerate(layers[:said], start=1):
        add(bundle / file, at({"training": {"seed": seed}}))
    assert load_dataset("parcels").settings.training.seed == said
    assert load_settings().training.seed == min(said, 3), "the other datasets' stay as they are"


def test_only_what_is_said_is_laid_over(bundle: Path) -> None:
    before = load_settings()
    say(
        bundle,
        settings={"steps": {"train": {"memory": "3Gi"}}, "serving": {"rollout": {"bake_seconds": 7}}},
        environments={"prod": {"settings": {"training": {"trials": 99}}}},
    )
    dataset = load_dataset("parcels").settings
    assert dataset.steps["train"] == before.steps["train"].model_copy(update={"memory": "3Gi"})
    assert dataset.serving.rollout == before.serving.rollout.model_copy(update={"bake_seconds": 7})
    assert dataset.training == before.training, "of another environment"
    assert {name: step for name, step in dataset.steps.items() if name != "train"} == {
        name: step for name, step in before.steps.items() if name != "train"
    }


def test_nothing_can_be_said_in_place_of_something(bundle: Path) -> None:
    add(bundle / "config" / "base.yaml", {"orchestration": {"schedule": "@daily"}})
    assert load_dataset("parcels").settings.orchestration.schedule == "@daily"
    say(bundle, settings={"orchestration": {"schedule": None}})
    assert load_dataset("parcels").settings.orchestration.schedule is None


@pytest.mark.parametrize("said", [{"settings": {"training": {"trials": 5}}}, {"environments": {"dev": {}}}])
def test_the_prediction_task_is_the_same_however_it_is_run(bundle: Path, said: dict[str, Any]) -> None:
    before = load_model("parcels")
    say(bundle, **said)
    assert load_model("parcels") == before
    assert load_model("parcels").model_dump_json() == before.model_dump_json(), "runs are named after this"
    assert "settings" not in load_model("parcels").model_dump(exclude_unset=True)


def test_a_dataset_can_be_left_out_of_an_environment(bundle: Path) -> None:
    say(bundle, environments={"local": {"enabled": False}, "dev": {"settings": {}}})
    assert not load_dataset("parcels").enabled
    assert ["parcels" in enabled_datasets(name) for name in ("local", "dev", "prod")] == [False, True, True]


def test_whether_dags_start_paused_is_known_without_the_facts_of_a_platform(bundle: Path) -> None:
    def asked() -> bool:
        found = starts_paused("parcels", "local", bundle)
        assert load_dataset("parcels").settings.orchestration.start_paused is found
        return found

    assert not asked()
    say(bundle, environments={"prod": {"settings": {"orchestration": {"start_paused": True}}}})
    assert not asked()
    add(bundle / "config" / "local.yaml", {"orchestration": {"start_paused": True}})
    assert asked()
    say(bundle, settings={"orchestration": {"start_paused": False}})
    assert not asked()
    (bundle / "platform.json").unlink()
    say(bundle, environments={"local": {"settings": {"orchestration": {"start_paused": True}}}})
    assert starts_paused("parcels", "local", bundle)
    add(bundle / "config" / "local.yaml", {"orchestration": {"retries": "many"}})
    with pytest.raises(ConfigError, match=r"orchestration: retries: .*got 'many'"):
        starts_paused("parcels", "local", bundle)


def test_a_dataset_without_the_environment_s_family_is_trained_with_its_first(bundle: Path) -> None:
    assert default_family(load_dataset("parcels")) == load_settings().training.family
    say(bundle, settings={"training": {"family": "net"}})
    assert default_family(load_dataset("parcels")) == "net"
    say(bundle, settings={"training": {"family": "sklearn"}})
    assert default_family(load_dataset("parcels")) == "xgboost"


def nested(path: str, value: Any) -> Any:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("approval.allow_force", True),
        ("approval.from_mlflow", True),
        ("steps.train.service_account", "deployer"),
        ("steps.train.namespace", "deployment"),
        ("training.search.maximum_trials", 500),
        ("serving.execution_role_arn", "arn:aws:iam::123456789012:role/x"),
        ("orchestration.deployment_slots", 999),
        ("notifications.topic_arn", "arn"),
        ("environment", "prod"),
    ],
)
@pytest.mark.parametrize("where", ["settings", "environments.prod.settings"])
def test_what_is_the_environment_s_is_not_for_a_dataset_to_say(bundle: Path, where: str, key: str, value: Any) -> None:
    say(bundle, **nested(f"{where}.{key}", value))
    assert refusal(bundle) == f"{MODEL}: {where}.{key}: Extra inputs are not permitted (got {value!r})"


@pytest.mark.parametrize("section", ["aws", "buckets", "images", "kubernetes", "mlflow", "policy"])
def test_sections_that_are_the_environment_s_are_refused_whole(bundle: Path, section: str) -> None:
    say(bundle, settings={section: {}})
    assert refusal(bundle) == f"{MODEL}: settings.{section}: Extra inputs are not permitted"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "settings.training.trials",
            0,
            f"{MODEL}: settings.training.trials: Input should be greater than or equal to 1 (got 0)",
        ),
        (
            "environments.prod.settings.orchestration.max_active_runs",
            65,
            f"{MODEL}: environments.prod.settings.orchestration.max_active_runs: "
            "Input should be less than or equal to 64 (got 65)",
        ),
        (
            "environments.prod.enabled",
            "maybe",
            f"{MODEL}: environments.prod.enabled: Input should be a valid boolean, unable to interpret input "
            "(got 'maybe')",
        ),
        (
            "environments.live",
            {},
            f"{MODEL}: environments.live: Input should be 'local', 'dev', 'staging' or 'prod' (got 'live')",
        ),
        (
            "settings.steps.fit.memory",
            "1Gi",
            f"{MODEL}: settings.steps.fit: Input should be 'validate', 'prepare', 'train', 'evaluate', 'deploy' or "
            "'monitor' (got 'fit')",
        ),
        # What is wrong only together with the environment's settings.
        (
            "settings.training.trials",
            300,
            f"config/base.yaml + config/local.yaml + platform.json, under settings of {MODEL}: "
            "training: trials: 300 are more than search.maximum_trials (256)",
        ),
        (
            "environments.local.settings.steps.train.node_pool",
            "tpu",
            f"config/base.yaml + config/local.yaml + platform.json, under settings of {MODEL}: "
            "steps.train.node_pool: 'tpu' is not one of cpu, gpu",
        ),
    ],
)
def test_a_bad_value_is_told_with_file_and_key(bundle: Path, key: str, value: Any, message: str) -> None:
    say(bundle, **nested(key, value))
    assert refusal(bundle) == message


@pytest.mark.parametrize("owner", ["", " ", "a\0b", "a\nb", "x" * 501])
def test_an_owner_that_airflow_s_database_would_not_take_is_refused(bundle: Path, owner: str) -> None:
    say(bundle, owner=owner)
    assert refusal(bundle).startswith(f"{MODEL}: owner: String should ")


@pytest.mark.parametrize("tag", ["", "a\0b", "x" * 101])
def test_a_tag_that_airflow_s_database_would_not_take_is_refused(bundle: Path, tag: str) -> None:
    say(bundle, settings={"orchestration": {"tags": [tag]}})
    assert refusal(bundle).startswith(f"{MODEL}: settings.orchestration.tags.0: String should ")


@pytest.mark.parametrize("owner", ["Jürg 😀", "a, b", "x" * 500])
def test_an_owner_may_be_called_anything_else(bundle: Path, owner: str) -> None:
    say(bundle, owner=owner)
    assert load_dataset("parcels").model.owner == owner


@pytest.mark.parametrize("section", ["orchestration", "monitoring"])
def test_a_schedule_that_airflow_would_not_take_is_told_with_its_key(bundle: Path, section: str) -> None:
    say(bundle, settings={section: {"schedule": "every day"}})
    assert refusal(bundle).startswith(f"{MODEL}: settings.{section}.schedule: neither five fields of cron")


def test_a_name_does_not_end_with_a_hyphen_as_no_endpoint_and_no_label_does(bundle: Path) -> None:
    say(bundle, name="parcels-")
    assert f"{MODEL}: name: String should match pattern" in refusal(bundle)
