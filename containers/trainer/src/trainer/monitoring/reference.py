"""What a live version is compared with: its train split's profile, its evaluation, and its answers there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlplatform.documents.evaluation import EvaluateResult, Score
from mlplatform.documents.paths import RunPaths
from mlplatform.documents.profiles import BINS, CategoryProfile, ColumnProfile, DataProfile, NumberProfile
from mlplatform.documents.run import RunConfig
from mlplatform.errors import NonRetryableError, StorageError
from mlplatform.monitoring.drift import Bins, CategoryBins, bins_of, comparable
from mlplatform.promotion.registry import get_version
from mlplatform.steps import RESULT
from mlplatform.storage import read_document
from modelformat import Manifest, ModelFormatError, Predictor
from trainer import data, tracking
from trainer.resources import threads

LEAST_ROWS = 10
"""Values of a feature with fewer rows of the reference are counted with all other ones. Of many rare values some are
frequent among few rows by chance alone, and are then rarer among others: that is no drift."""


@dataclass(frozen=True)
class Reference:
    """A model version as it was trained and evaluated.

    Attributes:
        bins: by feature, of the train split; without features that were empty there.
        predicted: bins of its predictions for the test split: numbers, or the most probable class.
        train_rows, test_rows: of the splits.
    """

    manifest: Manifest
    run_id: str
    bins: dict[str, Bins]
    predicted: Bins
    train_rows: int
    test_rows: int
    score: Score


def load(config: RunConfig, version: str, folder: Path) -> Reference:
    """Read what is known of a version, and have it predict its test split again: its predictions were not kept.

    Raises:
        NonRetryableError: there is no such version, or what it came from is gone.
    """
    registered = get_version(config.tracking_uri, config.model.registered_model, version)
    prefix = registered.tags.get("run_prefix")
    if not prefix:
        raise NonRetryableError(f"version {version} does not say which run made it (tag run_prefix)")
    paths = RunPaths(prefix)
    try:
        evaluation = read_document(paths.step("evaluate", RESULT), EvaluateResult)
        predictor = Predictor.load(
            tracking.download_model(config.tracking_uri, registered, folder / "model"), threads=threads()
        )
    except (StorageError, ModelFormatError) as error:
        raise NonRetryableError(str(error)) from None
    if evaluation.candidate.model_version != version:
        raise NonRetryableError(f"{prefix} has no evaluation of version {version}")
    prepared = data.read_prepared(paths.step("prepare"))
    profile = data.read_profile(prepared)
    manifest = predictor.manifest
    kinds: dict[str, data.Kind] = {feature.name: feature.kind for feature in manifest.features}
    test = data.load(data.fetch(prepared.test, folder / "test"), kinds, manifest.target, manifest.classes)
    answers = profile_of(predictor.predict(test.columns), manifest)
    return Reference(
        manifest=manifest,
        run_id=registered.run_id,
        bins=feature_bins(profile, manifest),
        predicted=bins_of(answers, test.rows),
        train_rows=profile.rows,
        test_rows=test.rows,
        score=evaluation.candidate,
    )


def profile_of(predictions: NDArray[np.float64], manifest: Manifest) -> ColumnProfile:
    """Describe predictions, (rows,) numbers or (rows, classes) probabilities."""
    if predictions.ndim == 2:
        counts = Counter(classes_of(predictions, manifest))
        return CategoryProfile(missing=0, counts=dict(sorted(counts.items())))
    there = predictions[np.isfinite(predictions)]
    low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 0.0)
    histogram = [0] * (BINS - 1) + [len(there)]
    if low < high:
        histogram = np.histogram(there, BINS, (low, high))[0].tolist()
    return NumberProfile(
        missing=len(predictions) - len(there),
        mean=float(there.mean()) if len(there) else 0.0,
        deviation=float(there.std()) if len(there) else 0.0,
        minimum=low,
        maximum=high,
        histogram=histogram,
    )


def classes_of(predictions: NDArray[np.float64], manifest: Manifest) -> list[str]:
    """Return the most probable class of each row."""
    names = manifest.classes or []
    return [names[index] for index in predictions.argmax(axis=1).tolist()]


def feature_bins(profile: DataProfile, manifest: Manifest) -> dict[str, Bins]:
    """Return the bins of each feature that the train split has a value of."""
    return {
        feature.name: folded(bins_of(column, profile.rows))
        for feature in manifest.features
        if (column := profile.columns.get(feature.name)) is not None and comparable(column, profile.rows)
    }


def folded(bins: Bins) -> Bins:
    """Return bins without values of too few rows, which are among all other ones then."""
    if not isinstance(bins, CategoryBins):
        return bins
    *counts, others, missing = bins.reference
    kept = [index for index, rows in enumerate(counts) if rows >= LEAST_ROWS]
    return CategoryBins(
        [bins.values[index] for index in kept],
        [*(counts[index] for index in kept), others + sum(counts) - sum(counts[index] for index in kept), missing],
    )
