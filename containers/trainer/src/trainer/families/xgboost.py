"""Gradient-boosted trees by XGBoost, with native missing values and categories."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import modelformat
from mlplatform.config.base import Scalar, TaskKind
from mlplatform.errors import NonRetryableError
from trainer.data import Dataset
from trainer.families import base
from trainer.families.boosting import Rounds, check_splits, shares
from trainer.families.device import choose_device
from trainer.session import DeviceOutOfMemory, Session

MODEL_FILE = "model.ubj"

_OBJECTIVES: Mapping[TaskKind, str] = {
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
    "regression": "reg:squarederror",
}
# What early stopping watches, by the task's metric. What XGBoost does not have, or what moves in jumps, is watched by
# the loss: Brier score and log loss agree on what is better calibrated, r2 is the squared error in other units.
_WATCHED: Mapping[TaskKind, Mapping[str, str]] = {
    "binary": {
        "roc_auc": "auc",
        "average_precision": "aucpr",
        "log_loss": "logloss",
        "brier_score": "logloss",
        "accuracy": "error",
    },
    "multiclass": {"log_loss": "mlogloss", "accuracy": "merror", "macro_f1": "mlogloss", "roc_auc": "auc"},
    "regression": {"rmse": "rmse", "mae": "mae", "r2": "rmse"},
}


@dataclass(frozen=True)
class Params:
    """``config/families/xgboost.yaml``, under XGBoost's names."""

    n_estimators: int
    early_stopping_rounds: int
    max_depth: int
    learning_rate: float
    min_child_weight: float
    subsample: float
    colsample_bytree: float
    gamma: float
    reg_alpha: float
    reg_lambda: float
    max_bin: int
    scale_pos_weight: float


@dataclass(frozen=True)
class FittedXGBoost:
    """A booster cut to its best iteration, and the encoding it was trained on."""

    task: base.Task
    features: base.Features
    booster: Any
    facts: Mapping[str, float]

    @property
    def importance(self) -> Mapping[str, float]:
        """Gain by feature, of all splits together; see `base.Fitted`."""
        gains = np.zeros(len(self.features))
        for column, gain in self.booster.get_score(importance_type="total_gain").items():
            gains[int(column.removeprefix("f"))] = gain
        return shares(gains, {feature.name: 1 for feature in self.features})

    def save(self, directory: Path) -> None:
        """See `base.Fitted`."""
        _write(self.booster, directory / MODEL_FILE)
        base.write_manifest(directory, "xgboost", "xgboost", MODEL_FILE, self.task, self.features)


class XGBoost:
    """Family ``xgboost``."""

    def fit(
        self, task: base.Task, train: Dataset, validation: Dataset, params: Mapping[str, Scalar], session: Session
    ) -> FittedXGBoost:
        """See `base.ModelFamily`."""
        chosen = Params(**params)  # type: ignore[arg-type]  # checked by the catalogue
        if task.kind != "binary" and chosen.scale_pos_weight != 1:
            raise NonRetryableError(
                f"scale_pos_weight: a {task.kind} task has no positive class; leave it at 1", kind="bad-config"
            )
        check_splits(task, train, validation)
        xgboost = modelformat.import_xgboost()
        device = choose_device("XGBoost", task.device, _obstacle)
        try:
            return _fit(xgboost, task, train, validation, chosen, session, device)
        except xgboost.core.XGBoostError as error:
            if device == "cuda" and re.search(r"out of memory|bad_alloc|MemoryAllocation", str(error)):
                raise DeviceOutOfMemory(
                    f"XGBoost, {train.rows} rows, max_bin {chosen.max_bin}, max_depth {chosen.max_depth}: "
                    f"{str(error).strip().splitlines()[0]}"
                ) from error
            raise


def _obstacle() -> str | None:
    built_for_it = modelformat.import_xgboost().build_info().get("USE_CUDA")
    return None if built_for_it else "this image has XGBoost without CUDA; image trainer_cuda has it with"


def _fit(
    xgboost: Any,
    task: base.Task,
    train: Dataset,
    validation: Dataset,
    params: Params,
    session: Session,
    device: str,
) -> FittedXGBoost:
    features = base.native_features(task)
    encoder = modelformat.Encoder(features)
    kinds = modelformat.feature_types(features)

    def matrix(data: Dataset, reference: Any = None) -> Any:
        # Names are left out: they would travel in the model file, and the manifest has them already.
        return xgboost.QuantileDMatrix(
            encoder.encode(data.columns),
            data.target,
            feature_types=kinds,
            enable_categorical=True,
            max_bin=params.max_bin,
            nthread=task.threads,
            ref=reference,
        )

    settings = asdict(params)
    limit, patience = settings.pop("n_estimators"), settings.pop("early_stopping_rounds")
    watched = _WATCHED[task.kind][task.metric]
    settings |= {
        "objective": _OBJECTIVES[task.kind],
        "tree_method": "hist",
        "device": device,
        "eval_metric": watched,
        "seed": task.seed,
        # Random numbers depend on the number of the round alone, so that going on after an interruption draws the same.
        "seed_per_iteration": True,
        "nthread": task.threads,
    }
    if task.kind == "multiclass":
        settings["num_class"] = len(task.classes or ())
    if task.kind != "binary":
        del settings["scale_pos_weight"]
    rounds = Rounds(task, validation, session, watched=watched, limit=limit, patience=patience)
    known = matrix(train)
    unknown = matrix(validation, known)
    state = None if rounds.state is None else rounds.state / MODEL_FILE
    booster = xgboost.Booster(settings, [known, unknown], model_file=state)
    while not rounds.ended:
        booster.update(known, rounds.progress.rounds)
        # "[7]\tvalidation-auc:0.8125"
        told = booster.eval_set([(unknown, "validation")], rounds.progress.rounds)
        rounds.add(
            float(told.rpartition(":")[2]),
            predict=lambda: booster.predict(unknown),
            save=lambda folder: _write(booster, folder / MODEL_FILE),
        )
    best, trained = rounds.progress.best_round, rounds.progress.rounds
    return FittedXGBoost(task, features, booster[:best], {"trees": float(best), "trees_trained": float(trained)})


def _write(booster: Any, path: Path) -> None:
    # The library's own writing does not say that the disk is full.
    path.write_bytes(booster.save_raw("ubj"))


FAMILY: base.ModelFamily = XGBoost()
