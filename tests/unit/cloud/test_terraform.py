from __future__ import annotations

from pathlib import Path

import pytest

from cloud.terraform import Terraform, TerraformError


def test_a_failure_in_front_of_a_person_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(TerraformError, match=r"terraform plan failed in .*the same command goes on from there"):
        Terraform(tmp_path).stream("plan", "-input=false")  # there is no configuration


def test_a_quiet_failure_has_terraforms_own_words(tmp_path: Path) -> None:
    with pytest.raises(TerraformError, match="No configuration files"):
        Terraform(tmp_path).run("plan", "-input=false")
