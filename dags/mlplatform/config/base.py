"""Names and types that every configuration file shares, and the strictness of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# It ends as it begins, as endpoints and the labels of pods have to.
Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
# Airflow's database takes no NUL, and one DAG that it does not take ends the DAG processor for all.
Label = Annotated[str, Field(pattern=r"^[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")]
# Folders of the landing bucket beside the datasets': late labels, and refused files.
RESERVED_NAMES = ("labels", "quarantine")
TaskKind = Literal["binary", "multiclass", "regression"]
Metric = Literal["roc_auc", "average_precision", "log_loss", "brier_score", "accuracy", "macro_f1", "rmse", "mae", "r2"]
METRICS: Mapping[TaskKind, tuple[Metric, ...]] = {
    "binary": ("roc_auc", "average_precision", "log_loss", "brier_score", "accuracy"),
    "multiclass": ("log_loss", "accuracy", "macro_f1", "roc_auc"),
    "regression": ("rmse", "mae", "r2"),
}
"""Which metrics each kind of task has; ``roc_auc`` of several classes is the mean of one against the rest."""
LOWER_IS_BETTER: frozenset[str] = frozenset({"log_loss", "brier_score", "rmse", "mae"})
Device = Literal["auto", "cpu", "cuda"]
Severity = Literal["warn", "fail"]


class Strict(BaseModel):
    """Base of every schema here: unknown keys are refused, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# Beyond 99 % the bounds hang on a handful of the thousand resamples.
Level = Annotated[float, Field(ge=0.8, le=0.99)]
Scalar = bool | int | float | str
