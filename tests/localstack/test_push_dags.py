"""``push-dags`` against the bucket as Terraform makes it."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cloud import bundle as bundles
from cloud.errors import CloudError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project(applied: Any, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project that a test may change; the bucket holds the project itself."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("dags", "config"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def listed(applied: Any) -> set[str]:
    found = applied.client("s3").list_objects_v2(Bucket=applied.bucket("dags"))
    return {entry["Key"] for entry in found["Contents"]}


def test_the_bucket_holds_the_bundle_and_what_terraform_owns(applied: Any, bundle: Path) -> None:
    contents = bundles.contents(ROOT)
    assert listed(applied) == set(contents) | bundles.TERRAFORM_KEYS
    s3 = applied.client("s3")
    for key, content in contents.items():
        answer = s3.get_object(Bucket=applied.bucket("dags"), Key=key)
        assert hashlib.sha256(answer["Body"].read()).digest() == hashlib.sha256(content).digest()
        assert (answer["ServerSideEncryption"], answer["SSEKMSKeyId"]) == ("aws:kms", applied.key)


def test_a_second_push_does_nothing(applied: Any, bundle: Path) -> None:
    report = applied.push()
    assert report.nothing_to_do
    assert len(report.plan.unchanged) == len(bundles.contents(ROOT))


def test_what_is_new_is_added_and_what_is_gone_is_deleted(applied: Any, project: Path) -> None:
    (project / "dags/second_dag.py").write_text("x = 1\n")
    (project / "dags/mlplatform/config/schemas.py").unlink()
    report = applied.push(project)
    assert (report.plan.added, report.plan.deleted) == (("dags/second_dag.py",), ("dags/mlplatform/config/schemas.py",))
    assert listed(applied) == set(bundles.contents(project)) | bundles.TERRAFORM_KEYS
    back = applied.push()
    assert (back.plan.added, back.plan.deleted) == (("dags/mlplatform/config/schemas.py",), ("dags/second_dag.py",))
    assert back.imported
    versions = applied.client("s3").list_object_versions(Bucket=applied.bucket("dags"), Prefix="dags/second_dag.py")
    assert len(versions["Versions"]) == 1, "what was deleted can be brought back"


def test_a_dag_that_airflow_cannot_import_changes_nothing(applied: Any, project: Path) -> None:
    before = listed(applied)
    (project / "dags/second_dag.py").write_text("from airflow.sdk import dag\nimport no_such_module\n")
    with pytest.raises(CloudError, match=r"(?s)second_dag\.py.*No module named 'no_such_module'.*Nothing was pushed"):
        applied.push(project, airflow=ROOT / ".local/envs/airflow/bin/python")
    assert listed(applied) == before


def test_the_pushed_bundle_reads_terraforms_facts(applied: Any, bundle: Path) -> None:
    shown = "import json; from mlplatform.config.loading import load_settings; print(load_settings().model_dump_json())"
    python = ROOT / ".local/envs/airflow/bin/python"
    done = subprocess.run([python, "-c", shown], cwd=bundle, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    settings = json.loads(done.stdout)
    assert settings["environment"] == "dev"
    assert settings["buckets"] == {purpose: applied.bucket(purpose) for purpose in ("landing", "data", "artifacts")}
    assert settings["notifications"]["topic_arn"] == applied.outputs["topics"]["notifications"]
