"""Gradient-boosted trees by XGBoost, with native missing values and categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

import modelformat
from mlplatform.config import Scalar, Strict
from trainer.data import Dataset
from trainer.families import base

MODEL_FILE = "model.ubj"

# What early stopping watches, by the task's metric. Brier score and log loss agree on what is better calibrated.
_WATCHED = {
    "roc_auc": "auc",
    "average_precision": "aucpr",
    "log_loss": "logloss",
    "brier_score": "logloss",
    "accuracy": "error",
}


class Params(Strict):
    """Parameters a trial may set, under XGBoost's names and with its defaults."""

    n_estimators: Annotated[int, Field(ge=1, le=100_000, description="At most; early stopping may keep fewer.")] = 500
    early_stopping_rounds: Annotated[int, Field(ge=1)] = 30
    max_depth: Annotated[int, Field(ge=1, le=32)] = 6
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.3
    min_child_weight: Annotated[float, Field(ge=0)] = 1.0
    subsample: Annotated[float, Field(gt=0, le=1)] = 1.0
    colsample_bytree: Annotated[float, Field(gt=0, le=1)] = 1.0
    gamma: Annotated[float, Field(ge=0)] = 0.0
    reg_alpha: Annotated[float, Field(ge=0)] = 0.0
    reg_lambda: Annotated[float, Field(ge=0)] = 1.0
    max_bin: Annotated[int, Field(ge=2, le=65_536)] = 256
    scale_pos_weight: Annotated[float, Field(gt=0)] = 1.0


@dataclass(frozen=True)
class FittedXGBoost:
    """A booster cut to its best iteration, and the encoding it was trained on."""

    task: base.Task
    features: base.Features
    booster: Any
    facts: Mapping[str, float]

    def save(self, directory: Path) -> None:
        """See `base.Fitted`."""
        self.booster.save_model(directory / MODEL_FILE)
        base.write_manifest(directory, "xgboost", MODEL_FILE, self.task, self.features)


class XGBoost:
    """Family ``xgboost``."""

    def fit(self, task: base.Task, train: Dataset, validation: Dataset, params: Mapping[str, Scalar]) -> FittedXGBoost:
        """See `base.ModelFamily`."""
        chosen = base.read_params("xgboost", Params, params)
        xgboost = modelformat.import_xgboost()
        features = base.native_features(task, train)
        encoder = modelformat.Encoder(features)
        kinds = modelformat.feature_types(features)

        def matrix(data: Dataset, reference: Any = None) -> Any:
            # Names are left out: they would travel in the model file, and the manifest has them already.
            return xgboost.QuantileDMatrix(
                encoder.encode(data.columns),
                data.target,
                feature_types=kinds,
                enable_categorical=True,
                max_bin=chosen.max_bin,
                nthread=task.threads,
                ref=reference,
            )

        known = matrix(train)
        settings = chosen.model_dump(exclude={"n_estimators", "early_stopping_rounds"})
        booster = xgboost.train(
            {
                **settings,
                "objective": "binary:logistic",
                "tree_method": "hist",
                "eval_metric": _WATCHED[task.metric],
                "seed": task.seed,
                "nthread": task.threads,
            },
            known,
            num_boost_round=chosen.n_estimators,
            evals=[(matrix(validation, known), "validation")],
            early_stopping_rounds=chosen.early_stopping_rounds,
            verbose_eval=False,
        )
        trained = booster.num_boosted_rounds()
        best = booster[: booster.best_iteration + 1]
        return FittedXGBoost(
            task, features, best, {"trees": float(best.num_boosted_rounds()), "trees_trained": float(trained)}
        )


FAMILY: base.ModelFamily = XGBoost()
