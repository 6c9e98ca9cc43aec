from __future__ import annotations

import pytest
import yaml

from cloud import environments
from cloud.cost import read_sizes
from cloud.environments import NAMES, Environment, check_region
from cloud.errors import CloudError
from cloud.terraform import ROOT
from mlplatform.config.loading import merge


def test_an_unknown_environment_is_refused_with_those_there_are() -> None:
    with pytest.raises(CloudError, match="ENV='' is not an environment: choose one of dev, staging, prod"):
        Environment("")


def test_names_begin_with_project_and_environment() -> None:
    assert Environment("prod").prefix == "ml-platform-prod"


@pytest.mark.parametrize(("region_in_names", "end"), [(True, "-eu-west-1"), (False, "")])
def test_the_state_bucket_is_called_as_terraform_calls_it(
    monkeypatch: pytest.MonkeyPatch, region_in_names: bool, end: str
) -> None:
    monkeypatch.delenv("ML_PLATFORM_STATE_BUCKET", raising=False)
    mine = environments.platform().model_copy(update={"region_in_names": region_in_names})
    monkeypatch.setattr(environments, "platform", lambda: mine)
    environment = Environment("dev")
    environment.account, environment.region = "123456789012", "eu-west-1"
    assert environment.state_bucket == f"ml-platform-terraform-state-123456789012{end}"
    monkeypatch.setenv("ML_PLATFORM_STATE_BUCKET", "states")
    assert environment.state_bucket == "states"


def test_another_region_is_refused() -> None:
    # A destroy there would find nothing and call it gone.
    with pytest.raises(CloudError, match="dev is in us-east-1, and your tools are set to eu-west-1: export AWS_REGION"):
        check_region("dev", "us-east-1", "eu-west-1")
    check_region("dev", "us-east-1", "us-east-1")
    check_region("dev", None, "eu-west-1")  # not applied yet


@pytest.mark.parametrize("name", NAMES)
def test_terraform_and_the_pipeline_agree_on_the_endpoint(name: str) -> None:
    base = yaml.safe_load((ROOT / "config" / "base.yaml").read_text(encoding="utf-8"))
    overlay = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8"))
    serving = merge(base, overlay)["serving"]
    for dataset, size in read_sizes(ROOT / f"terraform/environments/{name}/main.tf")["endpoints"].items():
        assert (ROOT / f"config/models/{dataset}.yaml").exists()
        assert size["instance_type"] == serving["instance_type"]
        assert size["instance_count"] == serving["instance_count"]
