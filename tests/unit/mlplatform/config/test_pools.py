"""Which pools the DAGs of a bundle need."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mlplatform.config.loading import merge
from mlplatform.config.pools import pools_of
from mlplatform.errors import ConfigError

MODEL = "config/models/parcels.yaml"


def say(bundle: Path, file: str, **content: object) -> None:
    path = bundle / file
    path.write_text(yaml.safe_dump(merge(yaml.safe_load(path.read_text()), dict(content))))


def sizes(bundle: Path) -> dict[str, tuple[int, bool]]:
    return {pool.name: (pool.slots, pool.include_deferred) for pool in pools_of(bundle)}


def test_each_dataset_has_a_pool_of_its_share_and_all_deployments_one(bundle: Path) -> None:
    say(bundle, MODEL, settings={"training": {"parallel_pods": 3}})
    assert sizes(bundle)["training__parcels"] == (3, True)
    assert sizes(bundle)["deployment"] == (32, False)


def test_slots_are_gpus_of_all_pods_of_a_trial(bundle: Path) -> None:
    say(
        bundle, MODEL, settings={"training": {"parallel_pods": 3, "pods_per_trial": 2}, "steps": {"train": {"gpus": 4}}}
    )
    assert sizes(bundle)["training__parcels"] == (24, True)


def test_a_dataset_without_dags_has_no_pool(bundle: Path) -> None:
    say(bundle, MODEL, environments={"local": {"enabled": False}})
    assert "training__parcels" not in sizes(bundle)


def test_a_file_that_is_refused_takes_no_other_dataset_s_pool(bundle: Path) -> None:
    before = sizes(bundle)
    (bundle / "config/models/broken.yaml").write_text("name: broken")
    assert sizes(bundle) == before


def test_refused_settings_are_said(bundle: Path) -> None:
    say(bundle, "config/base.yaml", orchestration={"deployment_slots": 0})
    with pytest.raises(ConfigError, match="deployment_slots"):
        pools_of(bundle)
