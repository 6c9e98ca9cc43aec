"""scikit-learn estimators, saved as ONNX: no pickle, and nothing of scikit-learn is needed to predict.

* ``logistic_regression``: complete, standardised numbers; a column per category.
* ``hist_gradient_boosting``: missing values as they are; categories as ordered codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

import modelformat
from mlplatform.config import Scalar, Strict
from modelformat import CategoryFeature
from trainer.data import Dataset
from trainer.families import base

MODEL_FILE = "model.onnx"


class Params(Strict):
    """Parameters a trial may set, under scikit-learn's names; each says which estimator reads it."""

    estimator: Literal["logistic_regression", "hist_gradient_boosting"] = "hist_gradient_boosting"
    C: Annotated[float, Field(gt=0, description="logistic_regression: inverse of the L2 penalty.")] = 1.0
    learning_rate: Annotated[float, Field(gt=0, le=1, description="hist_gradient_boosting")] = 0.1
    max_leaf_nodes: Annotated[int, Field(ge=2, description="hist_gradient_boosting")] = 31
    min_samples_leaf: Annotated[int, Field(ge=1, description="hist_gradient_boosting")] = 20
    l2_regularization: Annotated[float, Field(ge=0, description="hist_gradient_boosting")] = 0.0
    max_iter: Annotated[int, Field(ge=1, le=100_000, description="Most iterations or trees.")] = 500
    n_iter_no_change: Annotated[int, Field(ge=1, description="hist_gradient_boosting: patience.")] = 20


@dataclass(frozen=True)
class FittedSklearn:
    """An estimator and the encoding it was trained on."""

    task: base.Task
    features: base.Features
    estimator: Any
    facts: Mapping[str, float]

    def save(self, directory: Path) -> None:
        """See `base.Fitted`."""
        from trainer.families import onnx_export

        linear = type(self.estimator).__name__ == "LogisticRegression"
        convert = onnx_export.logistic_regression if linear else onnx_export.boosted_trees
        (directory / MODEL_FILE).write_bytes(convert(self.estimator).SerializeToString(deterministic=True))
        base.write_manifest(directory, "sklearn", MODEL_FILE, self.task, self.features)


class Sklearn:
    """Family ``sklearn``."""

    def fit(self, task: base.Task, train: Dataset, validation: Dataset, params: Mapping[str, Scalar]) -> FittedSklearn:
        """See `base.ModelFamily`."""
        chosen = base.read_params("sklearn", Params, params)
        linear = chosen.estimator == "logistic_regression"
        features = base.standardised_features(task, train) if linear else _boosted_features(task, train)
        encoder = modelformat.Encoder(features)
        inputs = encoder.encode(train.columns)
        estimator = _estimator(chosen, task.seed)
        from threadpoolctl import threadpool_limits

        with threadpool_limits(task.threads):
            if linear:
                estimator.fit(inputs, train.target)
                iterations = estimator.n_iter_.max()
            else:
                estimator.fit(inputs, train.target, X_val=encoder.encode(validation.columns), y_val=validation.target)
                iterations = estimator.n_iter_
        return FittedSklearn(task, features, estimator, {"iterations": float(iterations)})


def _boosted_features(task: base.Task, train: Dataset) -> base.Features:
    """Features as they are, but for those that are missing in all of training: the estimator cannot bin those."""
    features: base.Features = []
    for feature in base.native_features(task, train):
        if isinstance(feature, CategoryFeature):
            features.append(feature if feature.categories else feature.model_copy(update={"encoding": "one-hot"}))
        else:
            empty = bool(np.isnan(train.columns[feature.name]).all())
            features.append(feature.model_copy(update={"impute": 0.0}) if empty else feature)
    return features


def _estimator(params: Params, seed: int) -> Any:
    if params.estimator == "logistic_regression":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=params.C, max_iter=params.max_iter, random_state=seed)
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        learning_rate=params.learning_rate,
        max_leaf_nodes=params.max_leaf_nodes,
        min_samples_leaf=params.min_samples_leaf,
        l2_regularization=params.l2_regularization,
        max_iter=params.max_iter,
        early_stopping=True,
        n_iter_no_change=params.n_iter_no_change,
        random_state=seed,
    )


FAMILY: base.ModelFamily = Sklearn()
