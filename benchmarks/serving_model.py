"""Makes the model that `benchmarks.serving` serves, and rows to ask it: `python -m benchmarks.serving_model FOLDER`.

In the trainer's environment. FOLDER gets `model/` in the project's own format and `rows.json`: `names`, `rows` with
categories as text, and `codes`, the same rows with each category as its number.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import modelformat

NUMBERS, CATEGORIES = 13, 4
TRAINING_ROWS, ROWS = 20_000, 1_000


def make(folder: Path, seed: int) -> None:
    """Train and write."""
    xgboost = modelformat.import_xgboost()
    draw = np.random.default_rng(seed)
    values = draw.normal(scale=100, size=(TRAINING_ROWS, NUMBERS)).round(3)
    kinds = [f"kind {index:02d}" for index in range(20)]
    codes = draw.integers(0, len(kinds), (TRAINING_ROWS, CATEGORIES))
    margin = np.sin(values[:, :5] / 80).sum(axis=1) + (codes % 5 == 0).sum(axis=1) + draw.logistic(size=TRAINING_ROWS)
    values[draw.random(values.shape) < 0.05] = np.nan
    encoded = np.hstack([values, codes]).astype(np.float32)
    features: list[modelformat.Feature] = [modelformat.NumberFeature(name=f"number_{i}") for i in range(NUMBERS)]
    features += [modelformat.CategoryFeature(name=f"category_{i}", categories=kinds) for i in range(CATEGORIES)]
    matrix = xgboost.QuantileDMatrix(
        encoded, margin > 1, feature_types=modelformat.feature_types(features), enable_categorical=True
    )
    params = {"objective": "binary:logistic", "tree_method": "hist", "max_depth": 6, "eta": 0.1, "seed": seed}
    booster = xgboost.train(params, matrix, 100)
    directory = folder / "model"
    directory.mkdir(parents=True)
    booster.save_model(directory / "model.ubj")
    manifest = modelformat.Manifest(
        family="xgboost",
        engine="xgboost",
        task="binary",
        target="target",
        classes=["no", "yes"],
        features=features,
        model_file="model.ubj",
    )
    modelformat.write_manifest(directory, manifest)
    numbers = [[None if value != value else value for value in row] for row in values[:ROWS].tolist()]
    numbered = codes[:ROWS].tolist()
    content = {
        "names": [feature.name for feature in features],
        "rows": [row + [kinds[code] for code in more] for row, more in zip(numbers, numbered, strict=True)],
        "codes": [row + more for row, more in zip(numbers, numbered, strict=True)],
    }
    (folder / "rows.json").write_text(json.dumps(content), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Make a model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    make(options.folder, options.seed)


if __name__ == "__main__":
    main()
