"""Where a command's region comes from, and that there is one only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloud import bootstrap, regions
from cloud.environments import Environment
from cloud.errors import CloudError


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", regions.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws.config"))


def test_without_any_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="no AWS region is set: export AWS_REGION="):
        regions.of_root(tmp_path)


def test_of_the_tools_the_first_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "aws.config").write_text("[default]\nregion = eu-west-3\n")
    assert regions.of_root(tmp_path) == "eu-west-3"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert regions.of_root(tmp_path) == "eu-west-2"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert regions.of_root(tmp_path) == "eu-west-1"
    assert regions.of_root(tmp_path, given="eu-central-1") == "eu-central-1"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("terraform.tfvars", 'cost_center = "x"\nregion      = "eu-west-1" # ours\n'),
        ("terraform.tfvars.json", '{"region": "eu-west-1"}'),
        ("ours.auto.tfvars", 'region = "eu-west-1"'),
        ("ours.auto.tfvars.json", '{"region": "eu-west-1"}'),
        ("backend.tf", 'terraform {\n  backend "s3" {\n    region       = "eu-west-1"\n  }\n}\n'),
    ],
)
def test_a_region_that_is_written_down_counts_and_no_other_may_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    (tmp_path / name).write_text(text)
    assert regions.of_root(tmp_path) == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert regions.of_root(tmp_path) == "eu-west-1"
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with pytest.raises(
        CloudError, match=f"AWS_REGION says us-east-1 and .*/{name} says eu-west-1: have them say the same"
    ):
        regions.of_root(tmp_path)


def test_what_terraform_is_told_by_the_environment_is_no_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(regions.VARIABLE, "eu-west-1")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with pytest.raises(CloudError, match="AWS_REGION says us-east-1 and TF_VAR_region says eu-west-1"):
        regions.of_root(tmp_path)


def test_boto3_asks_the_region_that_the_readme_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 itself does not read AWS_REGION."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert Environment("dev").client("ec2").meta.region_name == "eu-west-1"


class Recorded:
    """Terraform that notes what it was told."""

    made: list[Recorded]

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.environment = environment or {}
        self.arguments: list[tuple[str, ...]] = []
        self.made.append(self)

    def init(self, *arguments: str) -> None:
        self.arguments.append(arguments)

    def stream(self, *arguments: str) -> None:
        self.arguments.append(arguments)

    def output(self) -> dict[str, Any]:
        return {"state_bucket": "b", "region": "eu-west-1"}


@pytest.fixture
def terraform(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    Recorded.made = []
    monkeypatch.setattr("cloud.environments.Terraform", Recorded)
    monkeypatch.setattr("cloud.bootstrap.Terraform", Recorded)
    return Recorded.made


class Storage:
    """S3 and STS with the state bucket in one region."""

    def __init__(self, region: str) -> None:
        self.region = region

    def get_caller_identity(self) -> dict[str, str]:
        return {"Account": "123456789012"}

    def head_bucket(self, Bucket: str) -> dict[str, str]:
        return {"BucketRegion": self.region}


def environment(monkeypatch: pytest.MonkeyPatch, bucket_in: str) -> Environment:
    monkeypatch.delenv("ML_PLATFORM_STATE_BUCKET", raising=False)
    found = Environment("dev")
    monkeypatch.setattr(found, "client", lambda service: Storage(bucket_in))
    return found


def test_terraform_gets_the_same_region(terraform: list[Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert environment(monkeypatch, "eu-west-1").terraform
    (made,) = terraform
    assert made.environment["TF_VAR_region"] == "eu-west-1"
    assert "-backend-config=region=eu-west-1" in made.arguments[0]


def test_an_environment_is_where_the_account_was_bootstrapped(
    terraform: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with pytest.raises(CloudError, match=r"bootstrapped in us-east-1, .*dev would be in eu-west-1"):
        assert environment(monkeypatch, "us-east-1").terraform
    assert not terraform[0].arguments
    named = environment(monkeypatch, "us-east-1")  # whoever keeps states in a bucket of their own knows where it is
    monkeypatch.setenv("ML_PLATFORM_STATE_BUCKET", "states")
    assert named.terraform
    assert "-backend-config=region=us-east-1" in terraform[-1].arguments[0]


def test_bootstrap_writes_the_region_of_the_tools_down(
    tmp_path: Path, terraform: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    bootstrap.bootstrap({"github_repository": "a/b"}, print, approved=True, folder=tmp_path)
    assert '"region": "eu-west-1"' in (tmp_path / bootstrap.VALUES).read_text()
    bootstrap.bootstrap({}, print, approved=True, folder=tmp_path)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    applied = len(terraform)
    with pytest.raises(CloudError, match=r"AWS_REGION says us-east-1 and .* says eu-west-1"):
        bootstrap.bootstrap({}, print, approved=True, folder=tmp_path)
    with pytest.raises(CloudError, match=r"--region says us-east-2 and .* says eu-west-1"):
        bootstrap.bootstrap({"region": "us-east-2"}, print, approved=True, folder=tmp_path)
    assert len(terraform) == applied


def test_bootstrap_still_wants_to_know_who_may_deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with pytest.raises(CloudError, match="GITHUB_REPOSITORY=owner/name"):
        bootstrap.bootstrap({}, print, approved=True, folder=tmp_path)
