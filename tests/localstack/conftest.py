"""One LocalStack for the folder, the modules applied to it once, and the DAG bundle as Airflow would have it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from cloud import document_versions
from cloud.bundle import PLATFORM
from cloud.push_dags import Report, push
from cloud.terraform import Terraform
from local.emulators.airflow_api import AirflowApi
from local.emulators.localstack import LocalStack
from local.pipeline.airflow_client import AirflowClient
from local.platform.images import image
from tests.airflow_api import client_of
from tests.provider import install, running

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("root")
# What a task or a pod gets of this machine; everything about AWS comes from LocalStack's own environment.
_MACHINE = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Destroy last; first what needs nothing applied, as applying goes on beside it."""
    order = {"test_localstack.py": -1, "test_destroy.py": 1}
    items.sort(key=lambda item: order.get(item.path.name, 0))


@dataclass
class Applied:
    """What the modules made, and where to ask for it."""

    localstack: LocalStack
    terraform: Terraform
    folder: Path

    @cached_property
    def airflow_api(self) -> AirflowClient:
        """Airflow's pools; there is no MWAA here."""
        return client_of(AirflowApi())

    @cached_property
    def outputs(self) -> dict[str, Any]:
        return self.terraform.output()

    @property
    def key(self) -> str:
        return str(self.outputs["kms_key_arn"])

    def bucket(self, purpose: str) -> str:
        return str(self.outputs["buckets"][purpose])

    def client(self, service: str) -> Any:
        return self.localstack.client(service)

    def push(self, root: Path = ROOT, **options: Any) -> Report:
        s3 = self.client("s3")
        facts = json.loads(s3.get_object(Bucket=self.bucket("dags"), Key=PLATFORM)["Body"].read())
        documents = self.folder / document_versions.FILE
        document_versions.write(documents, facts["images"], "0" * 40, document_versions.of_library(ROOT / "dags"))
        return push(
            self.bucket("dags"),
            client=s3,
            api=self.airflow_api,
            root=root,
            environment="dev",
            documents=documents,
            **options,
        )

    def environment(self, home: Path) -> dict[str, str]:
        """The environment of a process in the cloud: the machine's, AWS, nothing of the caller's own."""
        return {**_MACHINE, **self.localstack.environment, "AIRFLOW_HOME": str(home), "PYTHONUNBUFFERED": "1"}

    def airflow(self, bundle: Path, *arguments: str) -> list[str]:
        """Return the command that runs a task of the bundle in Airflow's environment; see `airflow_tasks`."""
        python = ROOT / ".local" / "envs" / "airflow" / "bin" / "python"
        return [str(python), "-P", str(Path(__file__).with_name("airflow_tasks.py")), str(bundle), *arguments]

    def run_airflow(self, bundle: Path, *arguments: str) -> str:
        """Run such a task and return the last line it printed."""
        done = subprocess.run(
            self.airflow(bundle, *arguments),
            env=self.environment(bundle.parent),
            cwd=bundle.parent,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()[-1]

    def run_step(self, step: str, prefix: str) -> subprocess.CompletedProcess[str]:
        """Run a step of the trainer image on a run's prefix, with the arguments its pod would get."""
        trainer = image("trainer", "tests")
        arguments = [step, "--config", f"{prefix}/config.json", "--input", prefix, "--output", f"{prefix}/{step}"]
        environment = {**_MACHINE, **trainer.env, **self.localstack.environment}
        return subprocess.run(
            [*trainer.entrypoint, *arguments],
            env=environment,
            cwd=trainer.working_dir,
            capture_output=True,
            text=True,
            timeout=180,
        )


@pytest.fixture(scope="session")
def localstack() -> Iterator[LocalStack]:
    with LocalStack() as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def applying(
    request: pytest.FixtureRequest, localstack: LocalStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Future[Applied] | None]:
    """The root, being applied, if any test needs it.

    Its folder is a copy, so that Terraform writes nothing into the project's. Nearly all of the time is waiting: for
    S3 and SQS to be sure of what they were told.
    """
    if not any("applied" in getattr(item, "fixturenames", ()) for item in request.session.items):
        yield None
        return
    project = tmp_path_factory.mktemp("project")
    folder = project / "tests" / "localstack" / "root"
    shutil.copytree(SOURCE, folder)
    (project / "terraform").symlink_to(ROOT / "terraform")
    provider = running(install(tmp_path_factory.mktemp("provider")), localstack.environment)

    def apply(environment: dict[str, str]) -> Applied:
        terraform = Terraform(folder, {**environment, "TF_VAR_project": str(ROOT)})
        terraform.init()
        terraform.run("apply", "-auto-approve", "-input=false", "-parallelism=30", timeout=400)
        return Applied(localstack, terraform, folder)

    with provider as environment, ThreadPoolExecutor(1) as background:
        yield background.submit(apply, environment)


@pytest.fixture(scope="session")
def applied(applying: Future[Applied]) -> Applied:
    """What the modules made."""
    return applying.result()


@pytest.fixture(scope="session")
def bundle(applied: Applied, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DAG folder as it is on a worker: what lies under dags/ in the bucket after a push."""
    applied.push(airflow=Path("none"))  # that Airflow can import it is shown where it is pushed again
    folder = tmp_path_factory.mktemp("worker") / "dags"
    s3 = applied.client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=applied.bucket("dags"), Prefix="dags/"):
        for entry in page["Contents"]:
            target = folder / entry["Key"].removeprefix("dags/")
            target.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(applied.bucket("dags"), entry["Key"], str(target))
    return folder
