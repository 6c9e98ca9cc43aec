from __future__ import annotations

import pytest
import yaml

from cloud.cost import read_sizes
from cloud.environments import NAMES, Environment
from cloud.errors import CloudError
from cloud.terraform import ROOT
from mlplatform.config import merge


def test_an_unknown_environment_is_refused_with_those_there_are() -> None:
    with pytest.raises(CloudError, match="ENV='' is not an environment: choose one of dev, staging, prod"):
        Environment("")


def test_names_begin_with_project_and_environment() -> None:
    assert Environment("prod").prefix == "ml-platform-prod"


@pytest.mark.parametrize("name", NAMES)
def test_terraform_and_the_pipeline_agree_on_the_endpoint(name: str) -> None:
    base = yaml.safe_load((ROOT / "config" / "base.yaml").read_text(encoding="utf-8"))
    overlay = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8"))
    serving = merge(base, overlay)["serving"]
    for dataset, size in read_sizes(ROOT / f"terraform/environments/{name}/main.tf")["endpoints"].items():
        assert (ROOT / f"config/models/{dataset}.yaml").exists()
        assert size["instance_type"] == serving["instance_type"]
        assert size["instance_count"] == serving["instance_count"]
