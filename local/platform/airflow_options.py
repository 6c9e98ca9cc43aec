"""Airflow's options here: the cloud's, and those in which one machine differs, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from local.platform.home import ROOT

SHARED = ROOT / "terraform" / "modules" / "airflow" / "configuration_options.yaml"
DIFFERENCES = ROOT / "local" / "airflow" / "differences.yaml"
Text = Annotated[str, Field(min_length=1)]


class Difference(BaseModel):
    """An option of which the local platform wants to decide itself."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    here: Text
    """Its value, with names in braces for what is known at the start only."""
    there: Text
    """Its value in the cloud, or where that comes from."""
    why: Text


def shared(file: Path = SHARED) -> dict[str, str]:
    """Return the options that Terraform's module sets in every environment, by ``section.option``."""
    return TypeAdapter(dict[str, Text]).validate_python(yaml.safe_load(file.read_text(encoding="utf-8")), strict=True)


def differences(file: Path = DIFFERENCES) -> dict[str, Difference]:
    """Return the options that are different here, by ``section.option``."""
    return TypeAdapter(dict[str, Difference]).validate_python(yaml.safe_load(file.read_text(encoding="utf-8")))


def variables(known: Mapping[str, object]) -> dict[str, str]:
    """Return the environment variables that set all options.

    Args:
        known: what stands for the names in braces.
    """
    options = shared() | {name: one.here.format_map(known) for name, one in differences().items()}
    return {variable(name): value for name, value in options.items()}


def variable(option: str) -> str:
    """Return the environment variable that sets an option."""
    section, _, key = option.partition(".")
    return f"AIRFLOW__{section}__{key}".upper()
