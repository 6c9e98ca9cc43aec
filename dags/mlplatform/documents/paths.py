"""Where the documents of runs and deployments are in S3."""

from __future__ import annotations

from dataclasses import dataclass

from mlplatform import storage
from mlplatform.config.environment import Settings
from mlplatform.documents.digests import digest
from mlplatform.errors import NonRetryableError


@dataclass(frozen=True)
class RunPaths:
    """Addresses of a run's documents, ``s3://<data>/runs/<dataset>/<run_key>/…``."""

    prefix: str

    @classmethod
    def of(cls, data_bucket: str, dataset: str, run_key: str) -> RunPaths:
        """Return the addresses of the run with this key."""
        return cls(f"s3://{data_bucket}/runs/{dataset}/{run_key}")

    @property
    def record(self) -> str:
        """`RunRecord`: who does the run, and how it ended."""
        return storage.join(self.prefix, "run.json")

    @property
    def config(self) -> str:
        """`RunConfig` of the steps validate and prepare."""
        return storage.join(self.prefix, "config.json")

    @property
    def inputs(self) -> str:
        """`InputManifest`."""
        return storage.join(self.prefix, "inputs.json")

    @property
    def decision(self) -> str:
        """`mlplatform.documents.decisions.Decision`."""
        return storage.join(self.prefix, "decision.json")

    def step(self, name: str, document: str = "") -> str:
        """Return the output prefix of a step, or the address of a document in it."""
        return storage.join(self.prefix, name, *([document] if document else []))

    @property
    def selection(self) -> str:
        """`mlplatform.documents.results.Selection`."""
        return storage.join(self.prefix, "selection.json")

    def training_pod(self, index: int, document: str = "") -> str:
        """Return the output prefix of a training pod, or the address of a document in it."""
        return self.step(f"train/{index:03d}", document)


@dataclass(frozen=True)
class DeploymentPaths:
    """Addresses of a deployment's documents."""

    prefix: str

    @classmethod
    def of(cls, settings: Settings, dataset: str, name: str, dag_run: str) -> DeploymentPaths:
        """Return the addresses of what a DAG run does; a task tried again finds them again.

        Args:
            settings: of the environment.
            dataset: it is about.
            name: of what is done: ``v<version>`` or ``rollback``.
            dag_run: ``<DAG>/<run>``.
        """
        return cls(f"s3://{settings.buckets.data}/deployments/{dataset}/{name}-{digest(dag_run)[:10]}")

    def document(self, name: str) -> str:
        """Return the address of a document."""
        return storage.join(self.prefix, name)

    @property
    def request(self) -> str:
        """`Request`."""
        return self.document("request.json")

    @property
    def config(self) -> str:
        """`RunConfig` of the step."""
        return self.document("config.json")


def paths_of_run(prefix: str | None) -> RunPaths:
    """Return the addresses of a run that an earlier task has claimed.

    Raises:
        NonRetryableError: there is none; a template of an XCom that was never pushed renders as "None".
    """
    if not prefix or not prefix.startswith("s3://"):
        raise NonRetryableError("no run was claimed: an earlier step failed, see its log")
    return RunPaths(prefix)


def monitoring_folder(settings: Settings, dataset: str) -> str:
    """Return the address that all documents of a dataset's monitoring are under."""
    return f"s3://{settings.buckets.data}/monitoring/{dataset}"
