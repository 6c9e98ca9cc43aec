"""Gradient-boosted trees by LightGBM, grown leaf by leaf, with native missing values and categories."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import modelformat
from mlplatform.config.base import Scalar, TaskKind
from trainer.data import Dataset
from trainer.families import base
from trainer.families.boosting import ROUNDS_PER_STEP, Rounds, check_splits, shares
from trainer.families.device import choose_device
from trainer.session import Session

log = logging.getLogger(__name__)

MODEL_FILE = "model.txt"

_OBJECTIVES: Mapping[TaskKind, str] = {"binary": "binary", "multiclass": "multiclass", "regression": "regression"}
# What early stopping watches, by the task's metric; see `trainer.families.xgboost`. LightGBM's AUC of several classes
# (auc_mu) is another one than that of one class against the rest.
_WATCHED: Mapping[TaskKind, Mapping[str, str]] = {
    "binary": {
        "roc_auc": "auc",
        "average_precision": "average_precision",
        "log_loss": "binary_logloss",
        "brier_score": "binary_logloss",
        "accuracy": "binary_error",
    },
    "multiclass": {
        "log_loss": "multi_logloss",
        "accuracy": "multi_error",
        "macro_f1": "multi_logloss",
        "roc_auc": "multi_logloss",
    },
    "regression": {"rmse": "rmse", "mae": "l1", "r2": "rmse"},
}
GPU_MAX_BIN = 255
"""LightGBM's GPU learner has no larger histograms."""


@dataclass(frozen=True)
class Params:
    """``config/families/lightgbm.yaml``, under the names of LightGBM's scikit-learn interface."""

    n_estimators: int
    early_stopping_rounds: int
    num_leaves: int
    max_depth: int
    learning_rate: float
    min_child_samples: int
    subsample: float
    colsample_bytree: float
    reg_alpha: float
    reg_lambda: float
    max_bin: int


@dataclass(frozen=True)
class FittedLightGBM:
    """A model cut to its best iteration, as LightGBM writes it, and the encoding it was trained on."""

    task: base.Task
    features: base.Features
    text: str
    facts: Mapping[str, float]

    @cached_property
    def booster(self) -> Any:
        """The model as serving reads it."""
        return modelformat.import_lightgbm().Booster(model_str=self.text)

    @property
    def importance(self) -> Mapping[str, float]:
        """Gain by feature, of all splits together; see `base.Fitted`."""
        gains = self.booster.feature_importance("gain")
        return shares(gains, {feature.name: 1 for feature in self.features})

    def save(self, directory: Path) -> None:
        """See `base.Fitted`."""
        (directory / MODEL_FILE).write_text(self.text, encoding="utf-8")
        base.write_manifest(directory, "lightgbm", "lightgbm", MODEL_FILE, self.task, self.features)


class LightGBM:
    """Family ``lightgbm``."""

    def fit(
        self, task: base.Task, train: Dataset, validation: Dataset, params: Mapping[str, Scalar], session: Session
    ) -> FittedLightGBM:
        """See `base.ModelFamily`."""
        chosen = Params(**params)  # type: ignore[arg-type]  # checked by the catalogue
        check_splits(task, train, validation)
        lightgbm = modelformat.import_lightgbm()
        device = choose_device("LightGBM", task.device, lambda: _obstacle(chosen.max_bin))
        watched = _WATCHED[task.kind][task.metric]
        features = base.native_features(task)
        encoder = modelformat.Encoder(features)
        rounds = Rounds(
            task, validation, session, watched=watched, limit=chosen.n_estimators, patience=chosen.early_stopping_rounds
        )
        categories = [index for index, kind in enumerate(modelformat.feature_types(features)) if kind == "c"]
        known = lightgbm.Dataset(
            encoder.encode(train.columns), np.asarray(train.target), categorical_feature=categories
        )
        unknown = lightgbm.Dataset(encoder.encode(validation.columns), validation.target, reference=known)
        start = rounds.progress.rounds
        state = None if rounds.state is None else lightgbm.Booster(model_file=rounds.state / MODEL_FILE)
        booster = lightgbm.train(
            {**_settings(task, chosen, watched, device), **draw(task.seed, chosen, start // ROUNDS_PER_STEP)},
            known,
            # Not what is left: the number is written into the model, and `_Watch` ends the training.
            num_boost_round=chosen.n_estimators,
            valid_sets=[unknown],
            init_model=state,
            keep_training_booster=True,
            callbacks=[_redraw(task.seed, chosen), _Watch(lightgbm, rounds)],
        )
        best, trained = rounds.progress.best_round, rounds.progress.rounds
        facts = {"trees": float(best), "trees_trained": float(trained)}
        return FittedLightGBM(task, features, booster.model_to_string(num_iteration=best), facts)


def _settings(task: base.Task, params: Params, watched: str, device: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "objective": _OBJECTIVES[task.kind],
        "metric": watched,
        "num_leaves": params.num_leaves,
        "max_depth": params.max_depth,
        "learning_rate": params.learning_rate,
        "min_child_samples": params.min_child_samples,
        # Without a frequency LightGBM ignores the share.
        "bagging_freq": 1 if params.subsample < 1 else 0,
        "bagging_fraction": params.subsample,
        "feature_fraction": params.colsample_bytree,
        "reg_alpha": params.reg_alpha,
        "reg_lambda": params.reg_lambda,
        "max_bin": params.max_bin,
        "seed": task.seed,
        "num_threads": task.threads,
        "verbosity": -1,
        "device_type": "gpu" if device == "cuda" else "cpu",
    }
    if device == "cpu":
        # The order of additions, and with it the last bits of a sum, does not depend on what a trial run is quicker.
        settings |= {"deterministic": True, "force_row_wise": True}
    if task.kind == "multiclass":
        settings["num_class"] = len(task.classes or ())
    return settings


def draw(seed: int, params: Params, step: int) -> dict[str, Any]:
    """Return the parameters that draw rows and columns during one step.

    LightGBM's random numbers go on from round to round and are not saved with a model. So they begin anew with every
    step, from a seed of its own, whether training was interrupted there or not.
    """

    def seed_for(what: str) -> int:
        return int.from_bytes(hashlib.sha256(f"{seed} {step} {what}".encode()).digest()[:4]) >> 1

    drawn: dict[str, Any] = {"feature_fraction_seed": seed_for("columns"), "bagging_seed": seed_for("rows")}
    if params.subsample < 1 and step % 2:
        # A new seed for rows counts only together with another share; this much less is less than one row.
        drawn["bagging_fraction"] = params.subsample * (1 - 1e-9)
    elif params.subsample < 1:
        drawn["bagging_fraction"] = params.subsample
    return drawn


def _redraw(seed: int, params: Params) -> Any:
    def redraw(environment: Any) -> None:
        at_boundary = environment.iteration % ROUNDS_PER_STEP == 0
        if at_boundary and environment.iteration > environment.begin_iteration:
            environment.model.reset_parameter(draw(seed, params, environment.iteration // ROUNDS_PER_STEP))

    redraw.before_iteration = True  # type: ignore[attr-defined]  # how LightGBM tells when to call it
    random = params.subsample < 1 or params.colsample_bytree < 1
    return redraw if random else lambda environment: None


class _Watch:
    """LightGBM's callback after each round."""

    def __init__(self, lightgbm: Any, rounds: Rounds) -> None:
        self._stop = lightgbm.EarlyStopException
        self._rounds = rounds

    def __call__(self, environment: Any) -> None:
        model, rounds = environment.model, self._rounds
        if model.current_iteration() <= rounds.progress.rounds:
            log.info("round %d: no leaf can be split any more", rounds.progress.rounds)
            raise self._stop(rounds.progress.best_round - 1, environment.evaluation_result_list)

        def predict() -> Any:
            held: list[Any] = []

            def keep(predictions: Any, data: Any) -> tuple[str, float, bool]:
                held.append(predictions)
                return "kept", 0.0, True

            # The library has them at hand, up to date; this is how it hands them out.
            model.eval_valid(feval=keep)
            return held[0]

        rounds.add(
            environment.evaluation_result_list[0][2],
            predict=predict,
            save=lambda folder: model.save_model(folder / MODEL_FILE, num_iteration=-1),
        )
        if rounds.ended:
            raise self._stop(rounds.progress.best_round - 1, environment.evaluation_result_list)


def _obstacle(max_bin: int) -> str | None:
    if max_bin > GPU_MAX_BIN:
        return f"LightGBM's GPU learner takes max_bin up to {GPU_MAX_BIN}, not {max_bin}"
    lightgbm = modelformat.import_lightgbm()
    data = lightgbm.Dataset(np.arange(40, dtype=np.float64).reshape(20, 2), np.arange(20, dtype=np.float64))
    try:  # the library does not tell what it was built with, or whether its OpenCL finds the GPU
        lightgbm.train({"device_type": "gpu", "verbosity": -1, "min_data_in_leaf": 1}, data, 1)
    except lightgbm.basic.LightGBMError as error:
        return f"LightGBM cannot use the GPU ({error})"
    return None


FAMILY: base.ModelFamily = LightGBM()
