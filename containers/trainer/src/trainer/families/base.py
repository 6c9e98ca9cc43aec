"""What a model family is: fit on two splits, save in the saved-model format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from pydantic import ValidationError

import modelformat
from mlplatform.config import Metric, Scalar, Strict, explain
from mlplatform.steps import Refused
from modelformat import CategoryFeature, NumberFeature
from trainer.data import Dataset, Kind

Features = list[NumberFeature | CategoryFeature]


@dataclass(frozen=True)
class Task:
    """What to learn, and with what.

    Attributes:
        features: kind of each input column, in order.
        metric: what early stopping watches on the validation split.
        metadata: goes into the saved model's manifest.
    """

    features: Mapping[str, Kind]
    target: str
    metric: Metric
    seed: int
    threads: int
    metadata: Mapping[str, str]


class Fitted(Protocol):
    """A trained model."""

    @property
    def facts(self) -> Mapping[str, float]:
        """Numbers worth tracking beside the metrics, such as the number of trees."""

    def save(self, directory: Path) -> None:
        """Write the model into an existing, empty directory, in the format of `modelformat`."""


class ModelFamily(Protocol):
    """Trains models of one kind."""

    def fit(self, task: Task, train: Dataset, validation: Dataset, params: Mapping[str, Scalar]) -> Fitted:
        """Train on one split, stop early by the other. The same arguments give the same model.

        Raises:
            Refused: a parameter is unknown or out of range.
        """


def read_params[Params: Strict](family: str, schema: type[Params], params: Mapping[str, Scalar]) -> Params:
    """Check a trial's parameters.

    Raises:
        Refused: one is unknown, of the wrong type or out of range; the message names it.
    """
    try:
        return schema.model_validate(dict(params))
    except ValidationError as error:
        raise Refused(str(explain(f"families.{family}", error)), kind="bad-config") from None


def categories(train: Dataset, name: str) -> list[str]:
    """Return the values of a category column that occur in training, sorted."""
    return sorted({value for value in train.columns[name].tolist() if value is not None})


def native_features(task: Task, train: Dataset) -> Features:
    """Features for trees that take missing values and category codes as they are."""
    return [
        NumberFeature(name=name) if kind == "number" else CategoryFeature(name=name, categories=categories(train, name))
        for name, kind in task.features.items()
    ]


def standardised_features(task: Task, train: Dataset) -> Features:
    """Features for models that need complete numbers of one scale: median, mean and deviation of the train split."""
    features: Features = []
    for name, kind in task.features.items():
        if kind == "category":
            features.append(CategoryFeature(name=name, categories=categories(train, name), encoding="one-hot"))
            continue
        values = train.columns[name]
        present = values[~np.isnan(values)]
        median = float(np.median(present)) if len(present) else 0.0
        complete = np.where(np.isnan(values), median, values)
        mean, scale = float(complete.mean()), float(complete.std())
        features.append(NumberFeature(name=name, impute=median, mean=mean, scale=scale if scale > 1e-12 else 1.0))
    return features


def write_manifest(directory: Path, family: str, model_file: str, task: Task, features: Features) -> None:
    """Describe the model file that is in a directory."""
    manifest = modelformat.Manifest.model_validate(
        {
            "family": family,
            "task": "binary",
            "target": task.target,
            "features": features,
            "model_file": model_file,
            "metadata": dict(task.metadata),
        }
    )
    modelformat.write_manifest(directory, manifest)
