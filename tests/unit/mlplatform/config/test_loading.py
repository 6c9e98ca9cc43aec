"""The project's own configuration files, in every environment."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlplatform.config import loading
from mlplatform.config.loading import default_family, load_dataset, load_model, load_settings, model_names
from mlplatform.config.schemas import render
from mlplatform.errors import ConfigError

ROOT = Path(__file__).parents[4]
ENVIRONMENTS = ["local", "dev", "staging", "prod"]


@pytest.fixture
def real(tmp_path: Path, platform: dict[str, Any]) -> Path:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "platform.json").write_text(json.dumps(platform))
    return tmp_path


@pytest.fixture
def platform() -> dict[str, Any]:
    return {
        "environment": "local",
        "aws": {"region": "us-east-1", "account_id": "123456789012"},
        "buckets": {"landing": "l", "data": "d", "artifacts": "a"},
        "kubernetes": {"kubeconfig": "kubeconfig"},
        "images": {"trainer": "t", "trainer_cuda": "c", "deployer": "d", "serving": "s"},
        "mlflow": {"tracking_uri": "http://mlflow"},
        "serving": {"execution_role_arn": "arn:aws:iam::123456789012:role/serving"},
    }


def write(bundle: Path, platform: dict[str, Any]) -> None:
    (bundle / "platform.json").write_text(json.dumps(platform))


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_environment_is_valid(real: Path, platform: dict[str, Any], environment: str) -> None:
    write(real, {**platform, "environment": environment})
    settings = load_settings(real)
    assert settings.environment == environment
    for name in model_names(real):
        dataset = load_dataset(name, real)
        assert default_family(dataset) in dataset.model.families
    assert settings.steps["train"].gpus == 1
    pool = settings.kubernetes.node_pools[settings.steps["train"].node_pool]
    assert [toleration.key for toleration in pool.tolerations] == ["nvidia.com/gpu"], "GPU nodes are tainted"
    training = settings.training
    assert training.trials <= training.search.maximum_trials
    assert settings.steps["train"].cpu_node_pool == "cpu"
    assert settings.steps["train"].termination_grace_seconds == 120, "what a spot node gives"
    accounts = [step.service_account for step in settings.steps.values()]
    assert len(set(accounts)) == len(accounts), "each step has rights of its own"


def test_staging_tries_what_production_does_to_an_endpoint(real: Path, platform: dict[str, Any]) -> None:
    rollouts = {}
    for environment in ("staging", "prod"):
        write(real, {**platform, "environment": environment})
        serving = load_settings(real).serving
        assert serving.instance_count >= 2, "a single instance is replaced at once: there would be no canary"
        rollouts[environment] = serving.rollout.strategy
    assert rollouts["staging"] == rollouts["prod"] == "canary"


def test_every_model_is_valid(real: Path) -> None:
    for name in model_names(real):
        model = load_model(name, real)
        assert model.tables[model.trigger_table].trigger


def test_every_family_is_valid(real: Path) -> None:
    names = loading.family_names(real)
    assert {"xgboost", "lightgbm", "sklearn", "pytorch"} <= set(names)
    for name in names:
        family = loading.load_family(name, real)
        assert "cpu" in family.devices, "the local platform has nothing else"
        assert "cuda" in family.devices or not family.distributed


@pytest.mark.parametrize("environment", ["dev", "staging", "prod", "local"])
def test_every_priority_class_is_in_the_cluster(real: Path, platform: dict[str, Any], environment: str) -> None:
    write(real, {**platform, "environment": environment})
    text = (ROOT / "config" / "kubernetes" / "base" / "priority-classes.yaml").read_text()
    known = {manifest["metadata"]["name"] for manifest in yaml.safe_load_all(text)}
    steps = load_settings(real).steps
    named = {step.priority_class for step in steps.values()} - {None}
    assert named == {"ml-platform-deployment"}
    assert named <= known, "Kubernetes refuses a pod with an unknown class"


def test_overlays_only_say_what_differs() -> None:
    base = yaml.safe_load((ROOT / "config" / "base.yaml").read_text())
    for environment in ENVIRONMENTS:
        overlay = yaml.safe_load((ROOT / "config" / f"{environment}.yaml").read_text())
        assert loading.merge(base, overlay).keys() == base.keys(), environment


def test_the_committed_schemas_are_those_of_the_code() -> None:
    for name, text in render().items():
        committed = (ROOT / "config" / "schema" / name).read_text()
        assert committed == text, f"make docs (changed: {name})"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"environment": "live"}, r"config/live\.yaml: no such file"),
        ({"aws": {"region": "us-east-1", "account_id": "12"}}, r"platform\.json: aws\.account_id: .*\(got '12'\)"),
        ({"training": {"trials": 0}}, r"training\.trials: .*greater than or equal to 1 \(got 0\)"),
        ({"steps": {"train": {"node_pool": "tpu"}}}, r"steps\.train\.node_pool: 'tpu' is not one of cpu, gpu"),
        ({"steps": {"train": {"cpu_node_pool": "arm"}}}, r"steps\.train\.cpu_node_pool: 'arm' is not one of cpu, gpu"),
        ({"training": {"trials": 300}}, r"training: trials: 300 are more than search\.maximum_trials \(256\)"),
        (
            {"training": {"search": {"method": "annealing"}}},
            r"training\.search\.method: .*'bayesian' \(got 'annealing'\)",
        ),
        ({"steps": {"train": {"gpu": 1}}}, r"steps\.train\.gpu: Extra inputs are not permitted"),
    ],
)
def test_a_mistake_is_refused_by_key(real: Path, platform: dict[str, Any], change: Any, message: str) -> None:
    write(real, {**platform, **change})
    with pytest.raises(ConfigError, match=message):
        load_settings(real)


def test_a_bundle_without_platform_says_who_writes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"platform\.json: no such file; it is written by"):
        load_settings(tmp_path)


def test_a_bundle_with_half_a_platform_names_the_file(real: Path) -> None:
    (real / "platform.json").write_text("{")
    with pytest.raises(ConfigError, match=r"platform\.json: not valid JSON"):
        load_settings(real)


def test_broken_yaml_names_the_file(real: Path) -> None:
    (real / "config" / "local.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match=r"local\.yaml: not valid YAML"):
        load_settings(real)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"owner: J\xfcrg", "not text in UTF-8: "),
        (b"since: 2026-13-45", "not valid YAML: month must be in 1..12"),
        (b"trials: " + b"9" * 5000, "not valid YAML: Exceeds the limit"),
        (b"a: !!int x", "not valid YAML: invalid literal for int"),
        (b"a: !!bool maybe", "not valid YAML: 'maybe'"),
        (b"a: !!timestamp x", "not valid YAML: "),
        (b"a: 1\nb: {c: 1, d: 2, c: 3}", "not valid YAML: key 'c' is there twice in .*, line 2, column 17"),
        (b"a: [{c: 1, c: 3}]", "not valid YAML: key 'c' is there twice"),
        (b"1: a", "1: Keys should be strings"),
    ],
)
def test_what_yaml_lets_through_is_a_mistake_of_the_file_all_the_same(real: Path, text: bytes, message: str) -> None:
    (real / "config" / "models" / "parcels.yaml").write_bytes(text)
    with pytest.raises(ConfigError, match=rf"parcels\.yaml: {message}"):
        load_model("parcels", real)


def test_a_key_that_is_laid_over_an_alias_is_no_mistake() -> None:
    assert loading._parse_yaml("a: &b {c: 1}\nd: {<<: *b, c: 2}\ne: [*b, *b]")["d"] == {"c": 2}


@pytest.mark.parametrize("kind", ["folder", "loop", "pipe"])
def test_what_is_no_file_is_a_mistake_of_its_dataset_alone(real: Path, kind: str) -> None:
    path = real / "config" / "models" / "parcels.yaml"
    {"folder": path.mkdir, "loop": lambda: path.symlink_to(path), "pipe": lambda: os.mkfifo(path)}[kind]()
    with pytest.raises(ConfigError, match=r"parcels\.yaml: no such file"):
        load_model("parcels", real)


def test_what_datasets_share_is_parsed_once_but_never_out_of_date(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    loader = loading._LOADER

    def parse(text: str) -> Any:
        parsed.append(text)
        return loader(text)

    monkeypatch.setattr(loading, "_LOADER", parse)
    loading._parse_yaml.cache_clear()
    names = model_names(real)
    alone = {name: load_dataset(name, real) for name in names}
    families = {family for found in alone.values() for family in found.model.families}
    assert len(parsed) == len(names) + len(families) + 2, "and the settings of all, and of the environment"
    base = real / "config" / "base.yaml"
    base.write_text(base.read_text().replace("  seed: 0\n", "  seed: 4711\n"))
    assert {load_dataset(name, real).settings.training.seed for name in names} == {4711}


def test_an_unknown_dataset_is_refused_with_those_there_are(bundle: Path) -> None:
    with pytest.raises(ConfigError, match="dataset 'iris' is not configured: config/models has parcels"):
        load_model("iris", bundle)
