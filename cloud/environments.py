"""An environment of the platform: its Terraform root, its state, its outputs."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions

from cloud import regions
from cloud.errors import CloudError
from cloud.platform_file import platform
from cloud.terraform import ROOT, Terraform

NAMES = ("dev", "staging", "prod")
STATE_BUCKET = "ML_PLATFORM_STATE_BUCKET"
"""Environment variable that names the bucket of the Terraform states, where it is not bootstrap's own name for it."""


class Environment:
    """One environment, by the name of its folder in `terraform/environments`."""

    def __init__(self, name: str, root: Path = ROOT) -> None:
        if name not in NAMES:
            raise CloudError(f"ENV={name!r} is not an environment: choose one of {', '.join(NAMES)}")
        self.name = name
        self.root = root
        self.folder = root / "terraform" / "environments" / name

    @property
    def prefix(self) -> str:
        """What the names of all its resources begin with."""
        return f"{platform().name}-{self.name}"

    @cached_property
    def region(self) -> str:
        """The region it is in, or is to be in.

        Raises:
            CloudError: none is set, or there are two.
        """
        return regions.of_root(self.folder)

    @cached_property
    def session(self) -> boto3.Session:
        """The caller's AWS session, in the environment's region."""
        return boto3.Session(region_name=self.region)

    def client(self, service: str) -> Any:
        """Return a client in the environment's region."""
        return self.session.client(service)  # type: ignore[call-overload]

    @cached_property
    def account(self) -> str:
        """The account the caller is in.

        Raises:
            CloudError: there are no valid credentials.
        """
        try:
            identity: str = self.client("sts").get_caller_identity()["Account"]
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            raise CloudError(f"AWS does not know you ({error}): sign in, for example with `aws sso login`") from None
        return identity

    @property
    def state_bucket(self) -> str:
        """The bucket that holds the state; see `terraform/bootstrap`."""
        if named := os.environ.get(STATE_BUCKET):
            return named
        return platform().state_bucket(self.account, self.region)

    @cached_property
    def terraform(self) -> Terraform:
        """Terraform in the environment's root, ready to plan.

        Raises:
            CloudError: the state's bucket does not exist, Terraform fails, or the caller is in another region.
        """
        terraform = Terraform(self.folder, {regions.VARIABLE: self.region})
        try:
            found = self.client("s3").head_bucket(Bucket=self.state_bucket)
        except botocore.exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            why = (
                "you may not read it: it takes rights to the bucket and its key, or this is another account"
                if code == "403"
                else "run `make bootstrap` in this account and region first, set your tools to the platform's region"
            )
            raise CloudError(
                f"the state bucket {self.state_bucket} cannot be read ({code}): {why}, or name another bucket in "
                f"{STATE_BUCKET}"
            ) from None
        there = found.get("BucketRegion") or self.region
        if STATE_BUCKET not in os.environ and there != self.region:
            raise CloudError(
                f"this account was bootstrapped in {there}, with its images and the rights to deploy, and {self.name} "
                f"would be in {self.region}: export AWS_REGION={there}"
            )
        terraform.init("-reconfigure", f"-backend-config=bucket={self.state_bucket}", f"-backend-config=region={there}")
        check_region(self.name, terraform.output().get("region"), self.region)
        return terraform

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """The root's outputs.

        Raises:
            CloudError: nothing is applied yet.
        """
        outputs = self.terraform.output()
        if "name" not in outputs:
            raise CloudError(f"nothing is applied in {self.name}: run `make apply ENV={self.name}` first")
        return outputs


def check_region(name: str, applied: str | None, current: str | None) -> None:
    """See that the caller's tools ask the region the environment is in; elsewhere nothing of it would be found.

    Raises:
        CloudError: they ask another one.
    """
    if applied and applied != current:
        raise CloudError(f"{name} is in {applied}, and your tools are set to {current}: export AWS_REGION={applied}")
