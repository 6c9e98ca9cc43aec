"""Every overlay, rendered once."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cloud import cluster_config

CIDR = "10.77.0.0/16"


def cluster(environment: str) -> cluster_config.Cluster:
    """A cluster that is named as Terraform would name it."""
    return cluster_config.Cluster(f"ml-platform-{environment}", "eu-west-1", CIDR, "https://cluster.invalid", "Q0E=")


@cache
def _rendered(environment: str) -> list[dict[str, Any]]:
    return cluster_config.render(environment, cluster(environment))


@pytest.fixture(scope="session")
def rendered() -> Callable[[str], list[dict[str, Any]]]:
    """Return an environment's objects; the caller may change them."""
    return lambda environment: copy.deepcopy(_rendered(environment))
