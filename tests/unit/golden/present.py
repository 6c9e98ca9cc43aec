"""What the sets are read with: the library as it is now. Whoever rearranges it changes these lines, and no test."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, RootModel

from mlplatform import approval, audit, config, deployments, landing, monitoring, registry, runs, storage
from mlplatform.approval import Recorded
from mlplatform.audit import AuditEntry
from mlplatform.config import InputManifest, RunConfig, Settings
from mlplatform.deployment_lock import LockRecord
from mlplatform.deployments import DeploymentPaths, Request
from mlplatform.gate import Decision
from mlplatform.landing import QuarantineReason
from mlplatform.monitoring import Retraining
from mlplatform.profile import DataProfile
from mlplatform.results import (
    DeployResult,
    EvaluateResult,
    Examples,
    MonitorResult,
    PrepareResult,
    StepFailure,
    TrainResult,
    TrialResult,
    ValidateResult,
)
from mlplatform.runs import FailureNote, OwnerPointer, RunPaths, RunRecord
from mlplatform.selection import Selection
from mlplatform.steps import Refused

__all__ = [
    "SCHEMAS",
    "Decision",
    "DeploymentPaths",
    "EvaluateResult",
    "InputManifest",
    "MonitorResult",
    "Recorded",
    "Refused",
    "Request",
    "RunConfig",
    "RunPaths",
    "RunRecord",
    "Settings",
    "StepFailure",
    "approval",
    "audit",
    "deployments",
    "landing",
    "monitoring",
    "registry",
    "runs",
    "storage",
    "use_bundle",
]


def use_bundle(bundle: Path, patch: pytest.MonkeyPatch) -> Settings:
    """Have the library read a bundle wherever none is named, and return its settings."""
    for function in (config.load_settings, config.load_model, config.model_names):
        defaults = tuple(bundle if value == config.BUNDLE else value for value in function.__defaults__ or ())
        patch.setattr(function, "__defaults__", defaults)
    return config.load_settings()


class Profiles(RootModel[dict[str, DataProfile]]):
    """A profile of each landed table."""


_RUN = r"data/runs/[a-z-]+/[0-9a-f]{20}"
_DEPLOYMENT = r"data/deployments/[a-z-]+/(v\d+|rollback)-[0-9a-f]{10}"
_WINDOW = r"data/monitoring/[a-z-]+/\d{8}T\d{6}Z-[0-9a-f]{10}"

SCHEMAS: dict[str, type[BaseModel] | None] = {
    r"data/runs/_owners/[^/]+\.json": OwnerPointer,
    rf"{_RUN}/run\.json": RunRecord,
    rf"{_RUN}/inputs\.json": InputManifest,
    rf"{_RUN}/((evaluate|train/\d{{3}})/)?config\.json": RunConfig,
    rf"{_RUN}/failures/[^/]+\.json": FailureNote,
    rf"{_RUN}/validate/result\.json": ValidateResult,
    rf"{_RUN}/validate/profile\.json": Profiles,
    rf"{_RUN}/[a-z]+/error\.json": StepFailure,
    rf"{_RUN}/prepare/result\.json": PrepareResult,
    rf"{_RUN}/prepare/profile\.json": DataProfile,
    rf"{_RUN}/train/\d{{3}}/result\.json": TrainResult,
    rf"{_RUN}/train/\d{{3}}/trials/\d{{3}}\.json": TrialResult,
    rf"{_RUN}/selection\.json": Selection,
    rf"{_RUN}/evaluate/result\.json": EvaluateResult,
    rf"{_RUN}/evaluate/examples\.json": Examples,
    rf"{_RUN}/decision\.json": Decision,
    rf"{_RUN}/approval/[0-9a-f]{{20}}\.json": Recorded,
    rf"{_DEPLOYMENT}/request\.json": Request,
    rf"{_DEPLOYMENT}/config\.json": RunConfig,
    rf"{_DEPLOYMENT}/result\.json": DeployResult,
    rf"{_DEPLOYMENT}/error\.json": StepFailure,
    r"data/deployments/[a-z-]+/lock\.json": LockRecord,
    rf"{_WINDOW}/config\.json": RunConfig,
    rf"{_WINDOW}/result\.json": MonitorResult,
    r"data/monitoring/[a-z-]+/retraining\.json": Retraining,
    r"landing/quarantine/.+\.reason\.json": QuarantineReason,
    r"artifacts/audit/[a-z-]+/[^/]+\.json": AuditEntry,
    # Read by the step that writes it, in that step's environment; see tests/containers.
    rf"{_RUN}/validate/validate\.json": None,
    rf"{_DEPLOYMENT}/intent\.json": None,
    # Data, not documents.
    rf"{_RUN}/prepare/test\.parquet": None,
    r"data/raw/[a-z-]+/[a-z-]+/[^/]+\.parquet": None,
    r"data/capture/.+\.jsonl": None,
    r"landing/labels/[a-z-]+/[^/]+\.parquet": None,
    r"landing/quarantine/.+\.parquet": None,
}
"""What each object of a set is, by a pattern of its path under ``s3/``; None where this library does not read it."""
