"""scikit-learn estimators, saved as ONNX: no pickle, and nothing of scikit-learn is needed to predict.

* ``linear``: LogisticRegression or Ridge on complete, standardised numbers; a column per category.
* ``hist_gradient_boosting``: missing values as they are; categories as ordered codes. It stops by its loss on the
  validation split, whatever the task's metric.

An interrupted training starts anew: these are quick, and scikit-learn saves no state but by pickle. Nothing is told to
the session, so a trial is not pruned either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import modelformat
from mlplatform.config.base import Scalar
from mlplatform.documents.profiles import NumberProfile
from mlplatform.errors import NonRetryableError
from modelformat import CategoryFeature
from trainer.data import Dataset
from trainer.families import base
from trainer.families.boosting import check_splits, shares
from trainer.session import Session

MODEL_FILE = "model.onnx"


@dataclass(frozen=True)
class Params:
    """``config/families/sklearn.yaml``, under scikit-learn's names; its help says which estimator reads which."""

    estimator: str
    C: float
    learning_rate: float
    max_leaf_nodes: int
    min_samples_leaf: int
    l2_regularization: float
    max_iter: int
    n_iter_no_change: int


@dataclass(frozen=True)
class FittedLinear:
    """A linear model.

    Attributes:
        coefficients: (margins, columns): a margin per class, or one.
        intercepts: (margins,).
    """

    task: base.Task
    features: base.Features
    coefficients: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    facts: Mapping[str, float]

    @property
    def importance(self) -> Mapping[str, float]:
        """Absolute weights on standardised columns, those of a feature's categories together; see `base.Fitted`."""
        return shares(np.abs(self.coefficients).sum(axis=0), _columns(self.features))

    def save(self, directory: Path) -> None:
        """See `base.Fitted`."""
        from trainer.families import onnx_export

        activation = _activation(self.task, len(self.intercepts))
        _save(onnx_export.linear(self.coefficients, self.intercepts, activation), directory, self.task, self.features)


@dataclass(frozen=True)
class FittedTrees:
    """An estimator of boosted trees."""

    task: base.Task
    features: base.Features
    estimator: Any
    facts: Mapping[str, float]

    @property
    def importance(self) -> Mapping[str, float]:
        """Gain of all splits together; see `base.Fitted`."""
        gains = np.zeros(self.estimator.n_features_in_)
        for stage in self.estimator._predictors:
            for tree in stage:
                inner = tree.nodes[tree.nodes["is_leaf"] == 0]
                np.add.at(gains, inner["feature_idx"], inner["gain"])
        return shares(np.maximum(gains, 0), _columns(self.features))

    def save(self, directory: Path) -> None:
        """See `base.Fitted`."""
        from trainer.families import onnx_export

        activation = _activation(self.task, self.estimator.n_trees_per_iteration_)
        _save(onnx_export.boosted_trees(self.estimator, activation), directory, self.task, self.features)


class Sklearn:
    """Family ``sklearn``."""

    def fit(
        self, task: base.Task, train: Dataset, validation: Dataset, params: Mapping[str, Scalar], session: Session
    ) -> FittedLinear | FittedTrees:
        """See `base.ModelFamily`."""
        chosen = Params(**params)  # type: ignore[arg-type]  # checked by the catalogue
        if task.device == "cuda":
            raise NonRetryableError(
                "training.device is cuda: scikit-learn computes on CPUs; set device to auto or cpu", kind="bad-config"
            )
        check_splits(task, train, validation)
        session.resume()  # there is never a state; see above
        from threadpoolctl import threadpool_limits

        with threadpool_limits(task.threads):
            if chosen.estimator == "linear":
                return _fit_linear(task, train, chosen)
            return _fit_trees(task, train, validation, chosen)


def _fit_linear(task: base.Task, train: Dataset, params: Params) -> FittedLinear:
    from sklearn.linear_model import LogisticRegression, Ridge

    features = base.standardised_features(task)
    inputs = _encode(features, train)
    centre, scale = 0.0, 1.0
    if task.kind == "regression":
        # Standardised before it is rounded to the 32 bits of the inputs, a target loses nothing and cannot overflow.
        centre, scale = float(train.target.mean()), float(train.target.std()) or 1.0
        estimator = Ridge(alpha=1 / params.C, max_iter=params.max_iter, random_state=task.seed)
        estimator.fit(inputs, (train.target - centre) / scale)
        facts = {}
    else:
        estimator = LogisticRegression(C=params.C, max_iter=params.max_iter, random_state=task.seed)
        estimator.fit(inputs, train.target)
        facts = {"iterations": float(estimator.n_iter_.max())}
    coefficients = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64)) * scale
    intercepts = np.atleast_1d(np.asarray(estimator.intercept_, dtype=np.float64)) * scale + centre
    return FittedLinear(task, features, coefficients, intercepts, facts)


def _fit_trees(task: base.Task, train: Dataset, validation: Dataset, params: Params) -> FittedTrees:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    features = _boosted_features(task)
    estimator = (HistGradientBoostingRegressor if task.kind == "regression" else HistGradientBoostingClassifier)(
        learning_rate=params.learning_rate,
        max_leaf_nodes=params.max_leaf_nodes,
        min_samples_leaf=params.min_samples_leaf,
        l2_regularization=params.l2_regularization,
        max_iter=params.max_iter,
        early_stopping=True,
        n_iter_no_change=params.n_iter_no_change,
        random_state=task.seed,
    )
    estimator.fit(_encode(features, train), train.target, X_val=_encode(features, validation), y_val=validation.target)
    return FittedTrees(task, features, estimator, {"iterations": float(estimator.n_iter_)})


def _encode(features: base.Features, data: Dataset) -> NDArray[np.float32]:
    encoder = modelformat.Encoder(features)
    if not encoder.width:
        raise NonRetryableError("no feature has a value in the train split; scikit-learn needs at least one")
    return encoder.encode(data.columns)


def _boosted_features(task: base.Task) -> base.Features:
    """Features as they are, but for those that are missing in all of training: the estimator cannot bin those."""
    features: base.Features = []
    for feature in base.native_features(task):
        if isinstance(feature, CategoryFeature):
            features.append(feature if feature.categories else feature.model_copy(update={"encoding": "one-hot"}))
        else:
            column = task.profile.columns[feature.name]
            empty = isinstance(column, NumberProfile) and column.missing == task.profile.rows
            features.append(feature.model_copy(update={"impute": 0.0}) if empty else feature)
    return features


def _columns(features: base.Features) -> dict[str, int]:
    """Return how many encoded columns each feature has."""
    return {feature.name: modelformat.width([feature]) for feature in features}


def _activation(task: base.Task, margins: int) -> Any:
    if task.kind == "regression":
        return "none"
    if task.kind == "binary":
        return "sigmoid"
    return "two-classes" if margins == 1 else "softmax"


def _save(model: Any, directory: Path, task: base.Task, features: base.Features) -> None:
    (directory / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
    base.write_manifest(directory, "sklearn", "onnx", MODEL_FILE, task, features)


FAMILY: base.ModelFamily = Sklearn()
