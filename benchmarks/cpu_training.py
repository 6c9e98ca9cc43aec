r"""What the families cost beyond their libraries: `python -m benchmarks.cpu_training`, in the trainer's environment.

    PYTHONPATH=.:dags:containers/trainer/src:containers/serving/src \
        .local/envs/trainer/bin/python -m benchmarks.cpu_training

Fits each family with a session that does nothing, and calls its library directly on the arrays that the family made of
the same data, with the same parameters. Both are warm, take turns, and train the same number of trees; what is more on
the family's side is encoding, the parts of a training that can be interrupted, and random numbers by round. Prints a
Markdown table; `--output` writes the measurements as JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import modelformat
from mlplatform.config.base import Scalar
from mlplatform.config.family import effective_params
from mlplatform.config.loading import load_family
from mlplatform.documents.profiles import BINS, CategoryProfile, DataProfile, NumberProfile
from trainer.data import Dataset
from trainer.families import load_family as load_code
from trainer.families.base import Task, native_features, standardised_features
from trainer.session import NoSession

ROOT = Path(__file__).parents[1]
CATEGORIES = 4
"""Of the columns; the others are numbers, a tenth of them missing."""


@dataclass(frozen=True)
class Case:
    """One family with parameters, and how its library does the same."""

    name: str
    family: str
    params: dict[str, Scalar]
    direct: Callable[[Arrays, dict[str, Any]], None]
    standardised: bool = False


@dataclass(frozen=True)
class Arrays:
    """What the library gets: encoded once, outside of what is measured."""

    train: Any
    target: Any
    validation: Any
    validation_target: Any
    kinds: list[str]
    threads: int
    seed: int


@dataclass
class Measured:
    """Seconds of each repeat."""

    name: str
    family: list[float] = field(default_factory=list)
    library: list[float] = field(default_factory=list)
    family_cpu: list[float] = field(default_factory=list)
    library_cpu: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The family's time over the library's: the median of the repeats' own ratios."""
        return statistics.median(ours / theirs for ours, theirs in zip(self.family, self.library, strict=True))

    @property
    def cpu_ratio(self) -> float:
        """The same of the processor's time, which others on the machine disturb less."""
        return statistics.median(ours / theirs for ours, theirs in zip(self.family_cpu, self.library_cpu, strict=True))


def _xgboost(arrays: Arrays, params: dict[str, Any]) -> None:
    xgboost = modelformat.import_xgboost()
    rounds, patience = params.pop("n_estimators"), params.pop("early_stopping_rounds")

    def matrix(values: Any, target: Any, reference: Any = None) -> Any:
        return xgboost.QuantileDMatrix(
            values,
            target,
            feature_types=arrays.kinds,
            enable_categorical=True,
            max_bin=params["max_bin"],
            nthread=arrays.threads,
            ref=reference,
        )

    known = matrix(arrays.train, arrays.target)
    unknown = matrix(arrays.validation, arrays.validation_target, known)
    settings = {"objective": "binary:logistic", "tree_method": "hist", "eval_metric": "auc"}
    xgboost.train(
        {**params, **settings, "seed": arrays.seed, "nthread": arrays.threads},
        known,
        rounds,
        evals=[(unknown, "validation")],
        early_stopping_rounds=patience,
        verbose_eval=False,
    )


def _lightgbm(arrays: Arrays, params: dict[str, Any]) -> None:
    lightgbm = modelformat.import_lightgbm()
    rounds, patience = params.pop("n_estimators"), params.pop("early_stopping_rounds")
    settings = {
        **params,
        "bagging_freq": 1 if params["subsample"] < 1 else 0,
        "objective": "binary",
        "metric": "auc",
        "seed": arrays.seed,
        "num_threads": arrays.threads,
        "verbosity": -1,
        "deterministic": True,
        "force_row_wise": True,
    }
    categories = [index for index, kind in enumerate(arrays.kinds) if kind == "c"]
    known = lightgbm.Dataset(arrays.train, arrays.target, categorical_feature=categories)
    lightgbm.train(
        settings,
        known,
        rounds,
        valid_sets=[lightgbm.Dataset(arrays.validation, arrays.validation_target, reference=known)],
        callbacks=[lightgbm.early_stopping(patience, verbose=False)],
    )


def _logistic_regression(arrays: Arrays, params: dict[str, Any]) -> None:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    with threadpool_limits(arrays.threads):
        LogisticRegression(C=params["C"], max_iter=params["max_iter"]).fit(arrays.train, arrays.target)


def _hist_gradient_boosting(arrays: Arrays, params: dict[str, Any]) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    names = ("learning_rate", "max_leaf_nodes", "min_samples_leaf", "l2_regularization", "max_iter", "n_iter_no_change")
    estimator = HistGradientBoostingClassifier(
        **{name: params[name] for name in names}, early_stopping=True, random_state=arrays.seed
    )
    with threadpool_limits(arrays.threads):
        estimator.fit(arrays.train, arrays.target, X_val=arrays.validation, y_val=arrays.validation_target)


def cases(rounds: int) -> list[Case]:
    """Return what is measured; patience is as long as the training, so that both sides do all rounds."""
    boosted: dict[str, Scalar] = {
        "n_estimators": rounds,
        "early_stopping_rounds": rounds,
        "learning_rate": 0.05,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
    }
    trees: dict[str, Scalar] = {"estimator": "hist_gradient_boosting", "max_iter": rounds, "n_iter_no_change": rounds}
    return [
        Case("xgboost", "xgboost", boosted, _xgboost),
        Case("lightgbm", "lightgbm", boosted, _lightgbm),
        Case("sklearn, hist_gradient_boosting", "sklearn", trees, _hist_gradient_boosting),
        Case("sklearn, linear", "sklearn", {"estimator": "linear"}, _logistic_regression, standardised=True),
    ]


def make_data(rows: int, columns: int, seed: int) -> Dataset:
    """Return a table with a binary target that depends on some columns, and on chance."""
    draw = np.random.default_rng(seed)
    names = np.array([f"value {value:02d}" for value in range(20)], dtype=object)
    table: dict[str, Any] = {}
    margin = draw.logistic(size=rows)
    for index in range(columns - CATEGORIES):
        values = draw.normal(size=rows)
        margin += np.sin(values) if index % 3 == 0 else 0
        values[draw.random(rows) < 0.1] = np.nan
        table[f"number_{index}"] = values
    for index in range(CATEGORIES):
        codes = draw.integers(0, len(names), rows)
        margin += (codes % 5 == 0) * 0.5
        table[f"category_{index}"] = names[codes]
    return Dataset(table, (margin > 0).astype(np.float64))


def make_task(train: Dataset, threads: int) -> Task:
    """Return the task, with the profile that step prepare would have written."""
    profiles: dict[str, NumberProfile | CategoryProfile] = {}
    for name, values in train.columns.items():
        if name.startswith("category"):
            found, counts = np.unique(values.astype(str), return_counts=True)
            profiles[name] = CategoryProfile(missing=0, counts=dict(zip(found.tolist(), counts.tolist(), strict=True)))
            continue
        there = values[~np.isnan(values)]
        profiles[name] = NumberProfile(
            missing=len(values) - len(there),
            mean=float(there.mean()),
            deviation=float(there.std()),
            minimum=float(there.min()),
            maximum=float(there.max()),
            histogram=np.histogram(there, BINS)[0].tolist(),
        )
    return Task(
        kind="binary",
        features={name: "category" if name.startswith("category") else "number" for name in train.columns},
        target="target",
        classes=["0", "1"],
        metric="roc_auc",
        seed=1,
        threads=threads,
        device="cpu",
        profile=DataProfile(rows=train.rows, columns=profiles, classes=["0", "1"]),
        metadata={},
    )


def measure(case: Case, task: Task, train: Dataset, validation: Dataset, repeats: int) -> Measured:
    """Measure a case; the first pair warms up and does not count."""
    spec = load_family(case.family, ROOT)
    params = effective_params("benchmark", spec, case.params)
    family = load_code(spec)
    features = standardised_features(task) if case.standardised else native_features(task)
    encoder = modelformat.Encoder(features)
    arrays = Arrays(
        encoder.encode(train.columns),
        train.target,
        encoder.encode(validation.columns),
        validation.target,
        modelformat.feature_types(features),
        task.threads,
        task.seed,
    )
    measured = Measured(case.name)
    for repeat in range(repeats + 1):
        ours = _time(lambda: family.fit(task, train, validation, params, NoSession()))
        theirs = _time(lambda: case.direct(arrays, dict(params)))
        if repeat:
            measured.family.append(ours[0])
            measured.family_cpu.append(ours[1])
            measured.library.append(theirs[0])
            measured.library_cpu.append(theirs[1])
    return measured


def _time(run: Callable[[], object]) -> tuple[float, float]:
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def render(results: list[Measured]) -> str:
    """Return the Markdown table."""
    lines = [
        "| family | fit s | library s | ratio | ratio of CPU time |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {result.name} | {statistics.median(result.family):.2f} | {statistics.median(result.library):.2f} "
        f"| {result.ratio:.2f} | {result.cpu_ratio:.2f} |"
        for result in results
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="of the train split; a quarter as many validate")
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", help="cases whose name has this in it")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message="lbfgs failed to converge")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `trainer.__main__` does, before OpenMP is loaded
    train = make_data(arguments.rows, arguments.columns, 1)
    validation = make_data(arguments.rows // 4, arguments.columns, 2)
    task = make_task(train, arguments.threads)
    results = []
    for case in cases(arguments.rounds):
        if arguments.only is None or arguments.only in case.name:
            results.append(measure(case, task, train, validation, arguments.repeats))
            print(f"{case.name}: {results[-1].ratio:.2f}", flush=True)
    machine = {"cores": os.cpu_count(), "threads": arguments.threads, "system": platform.platform()}
    shape = {"rows": arguments.rows, "columns": arguments.columns, "rounds": arguments.rounds}
    print(f"\n{arguments.rows:,} rows, {arguments.columns} columns, {arguments.rounds} rounds, {machine}\n")
    print(render(results))
    if arguments.output:
        versions = {name: version(name) for name in ("lightgbm", "numpy", "scikit-learn")}
        versions["xgboost"] = modelformat.import_xgboost().__version__
        content = {"machine": machine, "data": shape, "versions": versions, "cases": [asdict(one) for one in results]}
        arguments.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
