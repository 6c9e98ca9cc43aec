"""One emulated account for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.emulators import EmulatedAws


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedAws]:
    with EmulatedAws(tmp_path_factory.mktemp("account")) as account:
        yield account


@pytest.fixture
def probe(tmp_path: Path) -> Path:
    """A Terraform root with an S3 backend."""
    (tmp_path / "main.tf").write_text(
        """
        terraform {
          required_providers {
            aws = {
              source  = "hashicorp/aws"
              version = "~> 5.100"
            }
          }
          backend "s3" {
            key          = "probe.tfstate"
            use_lockfile = true
          }
        }

        provider "aws" {}

        variable "topics" {
          type    = set(string)
          default = ["one"]
        }

        resource "aws_sns_topic" "this" {
          for_each = var.topics
          name     = each.key
        }
        """
    )
    return tmp_path
