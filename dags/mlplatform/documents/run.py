"""What one run is given, and the record of who does it and how it ended."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field

from mlplatform.config.base import Device, Scalar, Strict
from mlplatform.config.dataset import ModelConfig
from mlplatform.config.environment import (
    Capture,
    Monitoring,
    Preparation,
    Rollout,
    Search,
    Settings,
    StudyDatabase,
    Vpc,
)
from mlplatform.config.family import FamilySpec
from mlplatform.config.policy import GUARDS_VERSION, Policy
from mlplatform.documents.base import Document


class Trial(Strict):
    """One point of the search space."""

    index: int
    params: dict[str, Scalar] = Field(
        description="All parameters that are set for it; under `bayesian` search only the fixed ones: the pod asks the "
        "study for the others. Trial 0 is the middle of the space under `random` and `bayesian`, and has them all."
    )


class Candidate(Strict):
    """The registered model version under evaluation or deployment."""

    version: str
    run_id: str
    model_digest: str = Field(description="SHA-256 of the saved model's files, see `modelformat`.")


class Experiment(Strict):
    """A second model version that answers a share of the requests, as the variant `challenger` (A/B test)."""

    version: str
    run_id: str
    model_digest: str
    weight: Annotated[float, Field(gt=0, lt=1)] = Field(description="Share of the requests that it answers.")
    examples_uri: str | None = Field(
        default=None, description="Its held-out examples; without them its answers are compared in form only."
    )


class Deployment(Strict):
    """What the deployer is asked to put live."""

    purpose: Literal["deploy", "rollback"] = Field(
        default="deploy",
        description="`rollback` puts the version of the alias `previous` back, which is the candidate.",
    )
    endpoint_name: str
    project: str = Field(default="ml-platform", description="Tag Project of what is made.")
    serving_image: str
    execution_role_arn: str
    instance_type: str
    instance_count: int
    startup_timeout_seconds: int
    artifacts_bucket: str
    examples_uri: str = Field(description="The candidate's held-out examples, with the predictions expected of them.")
    kms_key_arn: str | None = None
    encrypt_volumes: bool = Field(default=True, description="With the key; not where local disks encrypt themselves.")
    capture: Capture = Capture()
    network_isolation: bool = True
    vpc: Vpc | None = None
    alarms: list[str] = Field(default=[])
    rollout: Rollout = Rollout()
    kept_configurations: int = 5
    experiment: Experiment | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        dataset: str,
        examples_uri: str,
        *,
        purpose: Literal["deploy", "rollback"] = "deploy",
        experiment: Experiment | None = None,
    ) -> Self:
        """Return what an environment's settings say of a dataset's endpoint."""
        serving = settings.serving
        own_encryption = serving.local_disk_types and re.match(serving.local_disk_types, serving.instance_type)
        endpoint = serving.endpoint_name.format(dataset=dataset)
        uri = serving.capture.uri or f"s3://{settings.buckets.data}/capture/{endpoint}"
        return cls(
            purpose=purpose,
            endpoint_name=endpoint,
            project=settings.project,
            serving_image=settings.images.serving,
            execution_role_arn=serving.execution_role_arn,
            instance_type=serving.instance_type,
            instance_count=serving.instance_count,
            startup_timeout_seconds=serving.startup_timeout_seconds,
            artifacts_bucket=settings.buckets.artifacts,
            examples_uri=examples_uri,
            kms_key_arn=serving.kms_key_arn,
            encrypt_volumes=not own_encryption,
            capture=Capture(percentage=serving.capture.percentage, uri=uri.format(dataset=dataset)),
            network_isolation=serving.network_isolation,
            vpc=serving.vpc,
            alarms=serving.alarms.get(dataset, []),
            rollout=serving.rollout,
            kept_configurations=serving.kept_configurations,
            experiment=experiment,
        )


class Watch(Strict):
    """What the step `monitor` looks at: the requests of a window, start inclusive, end exclusive, UTC."""

    endpoint_name: str
    capture_uri: str
    labels_uri: str
    start: datetime
    labels_start: datetime = Field(description="Quality is measured from here on.")
    end: datetime
    unnamed_version: str | None = Field(
        default=None,
        description="Version of answers that name none (CSV); None where several were live, or nobody knows.",
    )
    environment: str
    limits: Monitoring


class RunConfig(Document):
    """``config.json``: the effective configuration a container step works with."""

    schema_version: int = 1 + GUARDS_VERSION
    oldest_readable = 2
    run_key: str
    seed: int
    family: FamilySpec
    model: ModelConfig
    policy: Policy
    tracking_uri: str
    region: str
    lineage: dict[str, str] = Field(default={})
    device: Device = "auto"
    checkpoint_seconds: float = 300
    search: Search = Search()
    study_database: StudyDatabase | None = None
    preparation: Preparation = Preparation()
    parent_run_id: str | None = Field(default=None, description="MLflow run that the trials' runs are nested in.")
    trials: list[Trial] = Field(default=[], description="What one training pod does; several run together.")
    candidate: Candidate | None = None
    deployment: Deployment | None = None
    monitoring: Watch | None = None


class RunRecord(Document):
    """``run.json``."""

    run_key: str
    dataset: str
    owner: str
    """``<DAG>/<run>`` that does the work."""
    state: Literal["running", "finished", "failed"]
    started_at: datetime
    finished_at: datetime | None = None
    outcome: Literal["promoted", "rejected", "superseded"] | None = None
    model_version: str | None = None
    reasons: list[str] = Field(default=[])
    failed_task: str | None = None


class Turn(Document):
    """Whose turn it is to work on a dataset's data and model."""

    owner: str | None
    """``<DAG>/<run>``; None where it is nobody's."""
    since: datetime


class OwnerPointer(Document):
    """Leads from a DAG run to its run record: a callback knows no more than the DAG run's id."""

    prefix: str


class FailureNote(Document):
    """Why a task failed for good, written by the task itself."""

    task: str
    message: str
    log_url: str | None
    at: datetime
