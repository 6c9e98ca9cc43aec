from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from cloud import dag_capacity
from cloud.environments import NAMES, Environment
from cloud.terraform import ROOT


@pytest.mark.parametrize(
    ("size", "dags", "told"),
    [
        ("mw1.micro", 25, None),
        ("mw1.micro", 26, "26 DAGs, and AWS means mw1.micro for up to 25: .*; mw1.small is for as many"),
        ("mw1.micro", 51, "51 DAGs, and AWS means mw1.micro for up to 25: .*; mw1.medium is for as many"),
        ("mw1.2xlarge", 4001, "no class is for as many"),
        ("var.size", 9000, None),  # not a value that can be read
    ],
)
def test_a_class_is_meant_for_so_many_dags(size: str, dags: int, told: str | None) -> None:
    found = dag_capacity.excess(size, ["dag"] * dags)
    assert found is None if told is None else re.search(told, found or "")


@pytest.mark.parametrize("name", NAMES)
def test_every_environment_has_room_for_its_datasets(name: str) -> None:
    assert dag_capacity.capacity_warning(Environment(name)) is None


def test_a_seventh_dataset_is_too_many_for_dev(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    shutil.copytree(ROOT / "terraform/environments/dev", tmp_path / "terraform/environments/dev", symlinks=True)
    models = tmp_path / "config/models"
    model = (models / "iris.yaml").read_text(encoding="utf-8")
    for number in range(7 - len(list(models.glob("*.yaml")))):
        more = model.replace("name: iris", f"name: more{number}").replace("iris-species", f"more-{number}")
        (models / f"more{number}.yaml").write_text(more, encoding="utf-8")
    assert (dag_capacity.capacity_warning(Environment("dev", tmp_path)) or "").startswith(
        "28 DAGs, and AWS means mw1.micro"
    )
