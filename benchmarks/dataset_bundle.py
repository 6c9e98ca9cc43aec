"""A DAG bundle with many datasets: copies of one of the repository's under names of their own."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DATASET = "flights"
"""The one that is copied: of the repository's it has the most tables and columns."""

PLATFORM: dict[str, Any] = {
    "environment": "local",
    "git_sha": "0" * 40,
    "aws": {"region": "us-east-1", "account_id": "123456789012"},
    "buckets": {name: f"benchmark-{name}" for name in ("landing", "data", "artifacts")},
    "kubernetes": {"kubeconfig": "kubeconfig", "context": "local"},
    "images": {
        name.replace("-", "_"): f"123456789012.dkr.ecr.us-east-1.amazonaws.com/mlplatform/{name}:0123456789ab"
        for name in ("trainer", "trainer-cuda", "deployer", "serving")
    },
    "mlflow": {"tracking_uri": "http://mlflow.invalid:5000"},
    "serving": {"execution_role_arn": "arn:aws:iam::123456789012:role/serving"},
}
"""Facts of no platform: DAGs are read and scheduled with them, and nothing is ever run."""


def names(count: int, dataset: str = DATASET) -> list[str]:
    """Return the names of so many copies, in order."""
    return [f"{dataset}-{number:03d}" for number in range(1, count + 1)]


def copies(count: int, dataset: str = DATASET, root: Path = ROOT) -> dict[str, str]:
    """Return the files of so many datasets that differ in nothing but their names, by the dataset's name."""
    text = (root / "config" / "models" / f"{dataset}.yaml").read_text(encoding="utf-8")
    registered = re.search(r"^registered_model: (.*)$", text, re.MULTILINE)
    assert registered is not None
    found = {}
    for name in names(count, dataset):
        number = name.rpartition("-")[2]
        own = re.sub(r"^name: .*$", f"name: {name}", text, count=1, flags=re.MULTILINE)
        found[name] = own.replace(registered[0], f"{registered[0]}-{number}", 1)
    return found


def assemble(target: Path, count: int, root: Path = ROOT) -> Path:
    """Make a bundle with so many datasets and no others, as it is laid out for Airflow."""
    shutil.copytree(root / "dags", target, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(root / "config", target / "config", ignore=shutil.ignore_patterns("models"))
    models = target / "config" / "models"
    models.mkdir()
    for name, text in copies(count, root=root).items():
        (models / f"{name}.yaml").write_text(text, encoding="utf-8")
    (target / "platform.json").write_text(json.dumps(PLATFORM), encoding="utf-8")
    (target / "kubeconfig").write_text("{}", encoding="utf-8")
    return target
