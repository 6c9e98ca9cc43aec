"""The region a command is about: one, whoever is asked. AWS's tools and Terraform are told the same."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import boto3

from cloud.errors import CloudError
from cloud.variables import written

VARIABLE = "TF_VAR_region"
BACKEND = "backend.tf"
"""Where the bootstrap root says in which region its own state is."""


def of_root(folder: Path, given: str | None = None) -> str:
    """Return the region that a Terraform root is in, or is to be in.

    Args:
        folder: the root's.
        given: what was asked for by option; before what the tools are set to.

    Raises:
        CloudError: nobody says which, or not all who do say the same.
    """
    named = [*_of_tools(given), *_of_terraform(folder)]
    if not named:
        raise CloudError("no AWS region is set: export AWS_REGION=…, such as us-east-1")
    if len({region for _, region in named}) > 1:
        told = " and ".join(f"{place} says {region}" for place, region in named)
        raise CloudError(
            f"{told}: have them say the same. What is made in one region cannot be moved to another; to begin anew "
            "there, destroy it first"
        )
    return named[0][1]


def _of_tools(given: str | None) -> Iterator[tuple[str, str]]:
    """What the caller's tools are set to: the first that is there counts, as for the AWS CLI and Terraform.

    boto3 reads AWS_DEFAULT_REGION only, so it is always told.
    """
    for place, region in (
        ("--region", given),
        *((name, os.environ.get(name)) for name in ("AWS_REGION", "AWS_DEFAULT_REGION")),
        ("your AWS profile", boto3.Session().region_name),
    ):
        if region:
            yield place, region
            return


def _of_terraform(folder: Path) -> Iterator[tuple[str, str]]:
    """What Terraform would take from elsewhere, and what it has written down."""
    if region := os.environ.get(VARIABLE):
        yield VARIABLE, region
    for path, values in written(folder):
        if region := values.get("region"):
            yield f"{folder.name}/{path.name}", region
    backend = folder / BACKEND
    if backend.exists() and (found := re.search(r'^\s*region\s*=\s*"(.+)"', backend.read_text("utf-8"), re.MULTILINE)):
        yield f"{folder.name}/{BACKEND}", found[1]
