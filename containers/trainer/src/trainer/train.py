"""Step train: one trial, from prepared splits to a scored model in MLflow."""

from __future__ import annotations

import logging
import math
import time
from datetime import UTC, datetime
from pathlib import Path

import modelformat
from mlplatform.config import RunConfig, Scalar
from mlplatform.results import TrainResult
from mlplatform.steps import Refused, StepContext, StepDefinition
from trainer import data, packaging, shutdown, tracking
from trainer.data import Dataset
from trainer.families import load_family
from trainer.families.base import Fitted, Task
from trainer.metrics import score_all
from trainer.resources import threads

log = logging.getLogger(__name__)


def run(context: StepContext) -> TrainResult:
    """Train the configured trial.

    Args:
        context: its input is the output of step prepare.

    Raises:
        Refused: there is no trial, a parameter is wrong, or the prepared data is not there.
    """
    config = context.config
    trial = config.trial
    if trial is None:
        raise Refused("trial: not set in the configuration; each training pod needs its own", kind="bad-config")
    if config.family not in config.model.families:
        raise Refused(f"family {config.family}: not configured for dataset {config.model.name}", kind="bad-config")
    params = {**config.model.families[config.family].params, **trial.params}
    kinds = {name: feature.type for name, feature in config.model.features.items()}
    tags = _tags(config, trial.index)
    with (
        shutdown.scratch_folder() as folder,
        tracking.trial_run(config, f"{config.run_key}-{trial.index:03d}", tags) as tracked,
    ):
        prepared = data.read_prepared(context.input)
        train, validation = (
            data.load(data.fetch(split, folder), kinds, config.model.target)
            for split in (prepared.train, prepared.validation)
        )
        started = time.monotonic()
        task = Task(
            features=kinds,
            target=config.model.target,
            metric=config.model.metric,
            seed=config.seed,
            threads=threads(),
            metadata={"dataset": config.model.name, "run_key": config.run_key, "trial": str(trial.index)},
        )
        fitted = load_family(config.family).fit(task, train, validation, params)
        fit_seconds = time.monotonic() - started
        saved = folder / "saved"
        metrics, model_digest = save_and_score(fitted, saved, validation)
        log.info("trial %d: %s in %.1f s", trial.index, _shown(metrics), fit_seconds)
        packaging.package(
            saved,
            folder / tracking.MODEL_PATH,
            run_id=tracked.run_id,
            created_at=context.started_at,
            example=example(train),
            metadata={**tags, "model_digest": model_digest},
        )
        tracked.log_model(folder / tracking.MODEL_PATH)
        tracked.log(
            {"family": config.family, "seed": config.seed, **params},
            {**metrics, **fitted.facts, "fit_seconds": fit_seconds, "train_rows": float(train.rows)},
            int(time.time() * 1000),
        )
        return TrainResult(
            run_key=config.run_key,
            started_at=context.started_at,
            finished_at=datetime.now(UTC),
            trial=trial.index,
            family=config.family,
            params=params,
            metrics=metrics,
            run_id=tracked.run_id,
            model_uri=tracked.model_uri,
            model_digest=model_digest,
            fit_seconds=fit_seconds,
        )


def save_and_score(fitted: Fitted, directory: Path, validation: Dataset) -> tuple[dict[str, float | None], str]:
    """Save a model, and score what was saved, by the code that serves it. Return metrics and digest."""
    directory.mkdir()
    fitted.save(directory)
    predictor = modelformat.Predictor.load(directory, threads=threads())
    return score_all(validation.target, predictor.predict(validation.columns)), predictor.digest


def example(dataset: Dataset) -> dict[str, Scalar | None]:
    """Return the first row as plain values."""
    row = {name: values[:1].tolist()[0] for name, values in dataset.columns.items()}
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def _tags(config: RunConfig, trial: int) -> dict[str, str]:
    own = {"run_key": config.run_key, "trial": str(trial), "dataset": config.model.name, "family": config.family}
    return {**config.lineage, **own}


def _shown(metrics: dict[str, float | None]) -> str:
    return ", ".join(f"{name} {'-' if value is None else format(value, '.4f')}" for name, value in metrics.items())


STEP = StepDefinition(run=run, result=TrainResult)
