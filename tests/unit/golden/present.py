"""What the sets are read with: the library as it is now. Whoever rearranges it changes these lines, and no test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import RootModel

from mlplatform.config import loading
from mlplatform.config.environment import Settings
from mlplatform.documents.decisions import AuditEntry, Decision, RecordedAnswer
from mlplatform.documents.deployment import DeploymentRequest, DeployResult, LockRecord
from mlplatform.documents.evaluation import EvaluateResult, Examples
from mlplatform.documents.inputs import InputManifest, QuarantineReason
from mlplatform.documents.monitoring import MonitorResult, Retraining
from mlplatform.documents.profiles import DataProfile, read_profiles
from mlplatform.documents.results import PrepareResult, Selection, StepFailure, TrainResult, TrialResult, ValidateResult
from mlplatform.documents.run import FailureNote, OwnerPointer, RunConfig, RunRecord


def use_bundle(bundle: Path, patch: pytest.MonkeyPatch) -> Settings:
    """Have the library read a bundle wherever none is named, and return its settings."""
    for function in (loading.load_settings, loading.load_model, loading.load_dataset, loading.model_names):
        defaults = tuple(bundle if value == loading.BUNDLE else value for value in function.__defaults__ or ())
        patch.setattr(function, "__defaults__", defaults)
    return loading.load_settings()


class Profiles(RootModel[dict[str, DataProfile]]):
    """A profile of each landed table."""

    @classmethod
    def read(cls, content: bytes | str, source: str) -> Profiles:
        return cls(read_profiles(content, source))


_RUN = r"data/runs/[a-z-]+/[0-9a-f]{20}"
_DEPLOYMENT = r"data/deployments/[a-z-]+/(v\d+|rollback)-[0-9a-f]{10}"
_WINDOW = r"data/monitoring/[a-z-]+/\d{8}T\d{6}Z-[0-9a-f]{10}"

SCHEMAS: dict[str, type[Any] | None] = {
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
    rf"{_RUN}/approval/[0-9a-f]{{20}}\.json": RecordedAnswer,
    rf"{_DEPLOYMENT}/request\.json": DeploymentRequest,
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
