"""What an account needs once, made by `make bootstrap` and asked for through the AWS API."""

from __future__ import annotations

import json

import pytest

from tests.emulated.plans import differences
from tests.emulated.support import Stories

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def bucket(stories: Stories) -> str:
    return f"ml-platform-terraform-state-{stories.aws.account}-{stories.aws.region}"


def test_the_state_bucket(stories: Stories, bucket: str) -> None:
    s3 = stories.aws.client("s3")
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert set(s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"].values()) == {True}
    policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    assert "TlsOnly" in [statement["Sid"] for statement in policy["Statement"]]


def test_its_own_state_has_moved_into_the_bucket(stories: Stories, bucket: str) -> None:
    stories.aws.client("s3").head_object(Bucket=bucket, Key="bootstrap/terraform.tfstate")
    assert not list(stories.workspace.root("bootstrap").glob("terraform.tfstate*"))


def test_the_image_repositories(stories: Stories) -> None:
    found = {r["repositoryName"]: r for r in stories.aws.client("ecr").describe_repositories()["repositories"]}
    images = ("deployer", "mlflow", "serving", "trainer", "trainer-cuda")
    assert set(found) == {f"ml-platform/{name}" for name in images}
    for repository in found.values():
        assert repository["imageTagMutability"] == "IMMUTABLE"
        assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
        assert repository["encryptionConfiguration"]["encryptionType"] == "KMS"


def test_the_ci_role_trusts_one_repository(stories: Stories) -> None:
    iam = stories.aws.client("iam")
    (provider,) = iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
    trusting = [
        role
        for page in iam.get_paginator("list_roles").paginate()
        for role in page["Roles"]
        if provider["Arn"] in json.dumps(role["AssumeRolePolicyDocument"])
    ]
    assert len(trusting) == 1
    assert "repo:your-org/ml-platform:" in json.dumps(trusting[0]["AssumeRolePolicyDocument"])


def test_a_second_plan_is_empty(stories: Stories) -> None:
    terraform = stories.workspace.terraform_of_bootstrap()
    saved = stories.workspace.folder / "bootstrap.plan"
    terraform.run("plan", "-input=false", f"-out={saved}")
    assert differences(terraform.show(str(saved))) == []
