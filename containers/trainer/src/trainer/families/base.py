"""What a model family is: fit on two splits, save in the saved-model format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import modelformat
from mlplatform.config.base import Device, Metric, Scalar, TaskKind
from mlplatform.documents.profiles import CategoryProfile, DataProfile, NumberProfile
from modelformat import CategoryFeature, NumberFeature
from trainer.data import Dataset, Kind
from trainer.session import Session

Features = list[NumberFeature | CategoryFeature]


@dataclass(frozen=True)
class Task:
    """What to learn, and with what.

    Attributes:
        features: kind of each input column, in order.
        classes: names of the classes in the order of `Dataset.target`; None for a regression.
        metric: what early stopping watches on the validation split.
        profile: of the train split; transformations are fitted from it, never from arrays.
        device: what to compute on; ``auto`` takes a GPU where the family can use one that is there.
        metadata: goes into the saved model's manifest.
    """

    kind: TaskKind
    features: Mapping[str, Kind]
    target: str
    classes: Sequence[str] | None
    metric: Metric
    seed: int
    threads: int
    device: Device
    profile: DataProfile
    metadata: Mapping[str, str]


class Fitted(Protocol):
    """A trained model."""

    @property
    def facts(self) -> Mapping[str, float]:
        """Numbers worth tracking beside the metrics, such as the number of trees."""

    @property
    def importance(self) -> Mapping[str, float]:
        """Importance of each feature, by name, as shares of 1; empty where the family has none of its own."""

    def save(self, directory: Path) -> None:
        """Write the model into an existing, empty directory, in the format of `modelformat`."""


class ModelFamily(Protocol):
    """Trains models of one kind."""

    def fit(
        self, task: Task, train: Dataset, validation: Dataset, params: Mapping[str, Scalar], session: Session
    ) -> Fitted:
        """Train on one split, stop early by the other. The same arguments give the same model.

        Args:
            params: all parameters of ``config/families/<family>.yaml``, checked, defaults filled in.

        Raises:
            Pruned, Stopped: by ``session.step``; let through.
            Diverged: the loss is no number any more.
            DeviceOutOfMemory: the device's memory does not hold the training.
            NonRetryableError: the parameters contradict one another, or the data cannot be trained on.
        """


class PackableFamily(ModelFamily, Protocol):
    """A family that trains several small trials together faster than one after the other."""

    def fit_together(
        self,
        task: Task,
        train: Dataset,
        validation: Dataset,
        params: Sequence[Mapping[str, Scalar]],
        sessions: Sequence[Session],
    ) -> Sequence[Fitted | Exception]:
        """Train one model per set of parameters; see `ModelFamily.fit`.

        A trial that is pruned or fails is an exception in its place, and the others go on. `Stopped` is raised once
        the state of all is saved.
        """


def native_features(task: Task) -> Features:
    """Features for trees that take missing values and category codes as they are."""
    features: Features = []
    for name in task.features:
        column = task.profile.columns[name]
        if isinstance(column, CategoryProfile):
            features.append(CategoryFeature(name=name, categories=sorted(column.counts)))
        else:
            features.append(NumberFeature(name=name))
    return features


def standardised_features(task: Task, encoding: Any = "one-hot") -> Features:
    """Features for models that need complete numbers of one scale: mean and deviation of the train split."""
    features: Features = []
    for name in task.features:
        column = task.profile.columns[name]
        if isinstance(column, CategoryProfile):
            features.append(CategoryFeature(name=name, categories=sorted(column.counts), encoding=encoding))
            continue
        number: NumberProfile = column
        scale = number.deviation if number.deviation > 1e-12 else 1.0
        features.append(NumberFeature(name=name, impute=number.mean, mean=number.mean, scale=scale))
    return features


def write_manifest(directory: Path, family: str, engine: str, model_file: str, task: Task, features: Features) -> None:
    """Describe the model file that is in a directory."""
    manifest = modelformat.Manifest.model_validate(
        {
            "family": family,
            "engine": engine,
            "task": task.kind,
            "target": task.target,
            "classes": None if task.classes is None else list(task.classes),
            "features": features,
            "model_file": model_file,
            "metadata": dict(task.metadata),
        }
    )
    modelformat.write_manifest(directory, manifest)
