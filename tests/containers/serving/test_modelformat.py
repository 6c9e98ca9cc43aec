"""The saved-model format and the transformation shared by training and serving."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import FEATURES, some_columns
from pydantic import ValidationError

from modelformat import (
    CategoryFeature,
    Feature,
    InputError,
    Manifest,
    ModelFormatError,
    NumberFeature,
    Predictor,
    digest,
    encode,
    feature_types,
    import_lightgbm,
    import_xgboost,
    read_manifest,
    width,
    write_manifest,
)

NAN = float("nan")


def test_numbers_are_imputed_then_standardised() -> None:
    features = [NumberFeature(name="a", impute=3.0, mean=1.0, scale=2.0), NumberFeature(name="b")]
    encoded = encode(features, {"a": [5, None, NAN, True], "b": [0.5, None, NAN, False]})
    assert encoded.dtype == np.float32
    assert encoded[:, 0].tolist() == [2.0, 1.0, 1.0, 0.0]
    assert encoded[[0, 3], 1].tolist() == [0.5, 0.0]
    assert np.isnan(encoded[1:3, 1]).all()


def test_categories_as_code_and_one_hot() -> None:
    values = ["b", None, "unseen", "a", NAN]
    code = CategoryFeature(name="k", categories=["a", "b"])
    assert encode([code], {"k": values})[[0, 3], 0].tolist() == [1.0, 0.0]
    assert np.isnan(encode([code], {"k": values})[[1, 2, 4], 0]).all()
    one_hot = CategoryFeature(name="k", categories=["a", "b"], encoding="one-hot")
    assert encode([one_hot], {"k": values}).tolist() == [[0, 1], [0, 0], [0, 0], [1, 0], [0, 0]]


def test_columns_keep_the_order_of_the_features() -> None:
    features: list[Feature] = [
        CategoryFeature(name="k", categories=["x", "y", "z"], encoding="one-hot"),
        NumberFeature(name="n"),
        CategoryFeature(name="c", categories=["x"]),
        NumberFeature(name="m"),
    ]
    encoded = encode(features, {"m": [4.0], "c": ["x"], "n": [2.0], "k": ["z"]})
    assert encoded.tolist() == [[0.0, 0.0, 1.0, 2.0, 0.0, 4.0]]
    assert width(features) == 6
    assert feature_types(features) == ["q", "q", "q", "q", "c", "q"]


def test_lists_and_arrays_are_the_same() -> None:
    columns = some_columns(500)
    lists = {name: [None if value != value else value for value in values] for name, values in columns.items()}
    np.testing.assert_array_equal(encode(FEATURES, columns), encode(FEATURES, lists))


def test_no_rows() -> None:
    assert encode(FEATURES, {"distance": [], "carrier": [], "wind": []}).shape == (0, 3)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"distance": [1.0], "carrier": ["AA"]}, "column 'wind': missing"),
        ({"distance": [1.0], "carrier": ["AA"], "wind": [1.0, 2.0]}, "column 'wind': 2 values where 'distance' has 1"),
        (
            {"distance": [1.0, "7"], "carrier": ["AA"] * 2, "wind": [1.0, 2.0]},
            "row 1, column 'distance': expected a number",
        ),
        ({"distance": [1.0, [2]], "carrier": ["AA"] * 2, "wind": [1.0, 2.0]}, "row 1, column 'distance'.*a list"),
        (
            {"distance": [1.0], "carrier": [7], "wind": [1.0]},
            "row 0, column 'carrier': expected text or null, got int 7",
        ),
        (
            {"distance": [1.0], "carrier": [{}], "wind": [1.0]},
            "row 0, column 'carrier': expected text or null, got an obj",
        ),
        ({"distance": [1.0], "carrier": ["AA"], "wind": [float("inf")]}, "row 0, column 'wind': not a finite number"),
        ({"distance": [1e300], "carrier": ["AA"], "wind": [1.0]}, "row 0, column 'distance': not a finite number"),
    ],
)
def test_what_cannot_be_encoded_is_named(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encode(FEATURES, columns)


def test_numbers_are_never_read_out_of_text_arrays() -> None:
    with pytest.raises(InputError, match="row 0, column 'a': expected a number"):
        encode([NumberFeature(name="a")], {"a": np.array(["1.5", "2.5"])})


def test_prediction_equals_the_library_and_does_not_depend_on_the_batch(xgboost_model: Path) -> None:
    xgboost = import_xgboost()
    columns = some_columns(3000, seed=5)
    predictor = Predictor.load(xgboost_model)
    many = predictor.predict(columns)
    assert many.dtype == np.float64
    assert many.shape == (3000,)
    booster = xgboost.Booster(model_file=xgboost_model / "model.ubj")
    matrix = xgboost.DMatrix(encode(FEATURES, columns), feature_types=feature_types(FEATURES), enable_categorical=True)
    np.testing.assert_array_equal(many, booster.predict(matrix))
    for row in range(0, 3000, 97):
        one = predictor.predict({name: values[row : row + 1].tolist() for name, values in columns.items()})
        assert one[0] == many[row]
    assert predictor.predict({name: [] for name in columns}).shape == (0,)


@pytest.mark.parametrize("engine", ["xgboost", "lightgbm"])
@pytest.mark.parametrize(("task", "shape"), [("binary", ()), ("multiclass", (3,)), ("regression", ())])
def test_predictions_of_every_task(
    engine: str, task: str, shape: tuple[int, ...], saved_models: dict[tuple[str, str], Path]
) -> None:
    columns = some_columns(500, seed=6)
    predictor = Predictor.load(saved_models[engine, task], threads=1)
    many = predictor.predict(columns)
    assert (many.dtype, many.shape) == (np.float64, (500, *shape))
    path, encoded = saved_models[engine, task] / predictor.manifest.model_file, encode(FEATURES, columns)
    if engine == "xgboost":
        expected = import_xgboost().Booster(model_file=path).inplace_predict(encoded)
    else:
        expected = import_lightgbm().Booster(model_file=path).predict(encoded)
    np.testing.assert_array_equal(many, expected)
    for row in range(0, 500, 97):
        one = predictor.predict({name: values[row : row + 1].tolist() for name, values in columns.items()})
        np.testing.assert_array_equal(one[0], many[row])
    assert predictor.predict({name: [] for name in columns}).shape == (0, *shape)
    if task == "multiclass":
        np.testing.assert_allclose(many.sum(axis=1), 1, atol=1e-6)


def test_a_prediction_may_use_several_threads(lightgbm_model: Path) -> None:
    columns = some_columns(500)
    one, two = (Predictor.load(lightgbm_model, threads=threads).predict(columns) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_onnx_gives_the_probability_of_class_1(sklearn_model: Path, logistic: dict[str, Any]) -> None:
    predictor = Predictor.load(sklearn_model, threads=1)
    columns = {name: [row[name] for row in logistic["rows"]] for name in logistic["rows"][0]}
    np.testing.assert_allclose(predictor.predict(columns), logistic["predictions"], atol=1e-6)


def test_digest_sees_names_and_contents(xgboost_model: Path, tmp_path: Path) -> None:
    original = digest(xgboost_model)
    copy = tmp_path / "copy"
    shutil.copytree(xgboost_model, copy)
    assert digest(copy) == original == Predictor.load(copy).digest
    (copy / "manifest.json").rename(copy / "manifest.jsoN")
    assert digest(copy) != original
    (copy / "manifest.jsoN").rename(copy / "manifest.json")
    with (copy / "model.ubj").open("ab") as file:
        file.write(b"\0")
    assert digest(copy) != original
    with pytest.raises(FileNotFoundError):
        digest(tmp_path / "nothing")


def test_digest_cannot_be_moved_between_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "ab").write_text("c")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "a").write_text("bc")
    assert digest(tmp_path / "one") != digest(tmp_path / "two")


def test_digest_needs_neither_numpy_nor_an_engine() -> None:
    code = "import sys; from modelformat import digest; print({'numpy', 'pydantic', 'xgboost'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_only_the_engine_that_is_needed_is_imported(
    sklearn_model: Path, xgboost_model: Path, lightgbm_model: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; from modelformat import Predictor; Predictor.load(Path(sys.argv[1]));"
        "print(sorted({'xgboost', 'lightgbm', 'onnxruntime', 'sklearn', 'pandas'} & set(sys.modules)))"
    )
    for model, engine in (
        (sklearn_model, "onnxruntime"),
        (xgboost_model, "xgboost"),
        (lightgbm_model, "lightgbm"),
    ):
        done = subprocess.run([sys.executable, "-c", code, model], capture_output=True, text=True, check=True)
        assert done.stdout == f"['{engine}']\n"


def test_the_manifest_is_the_same_after_a_round_trip(xgboost_model: Path, tmp_path: Path) -> None:
    manifest = read_manifest(xgboost_model)
    assert manifest.features == FEATURES
    (tmp_path / "model.ubj").touch()
    write_manifest(tmp_path, manifest)
    assert (tmp_path / "manifest.json").read_bytes() == (xgboost_model / "manifest.json").read_bytes()


def changed_manifest(model: Path, folder: Path, change: dict[str, Any]) -> None:
    shutil.copytree(model, folder, dirs_exist_ok=True)
    content = json.loads((folder / "manifest.json").read_text()) | change
    (folder / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 1}, r"manifest\.json: .*format version 1, which is not read any more.*: train it again$"),
        ({"format_version": "2"}, "format_version"),
        ({"format_version": True}, "format_version"),
        ({"engine": "pickle"}, "engine"),
        ({"task": "ranking"}, "task"),
        ({"classes": None}, "classes: needed for a classification"),
        ({"task": "regression"}, "classes: .*not allowed for a regression"),
        ({"classes": ["0"]}, "at least two"),
        ({"classes": ["0", "0"]}, "each once"),
        ({"classes": ["0", "1", "2"]}, "a binary task has two"),
        ({"features": []}, "features"),
        ({"features": [{"kind": "number", "name": "a"}, {"kind": "number", "name": "a"}]}, "'a' is there twice"),
        ({"features": [{"kind": "category", "name": "a", "categories": ["b", "a"]}]}, "sorted and distinct"),
        ({"features": [{"kind": "number", "name": "a", "scale": 0.0}]}, "scale"),
        ({"model_file": "../model.ubj"}, "model_file"),
        ({"model_file": "other.ubj"}, "'other.ubj' is not in"),
    ],
)
def test_a_wrong_manifest_is_refused(change: dict[str, Any], message: str, xgboost_model: Path, tmp_path: Path) -> None:
    changed_manifest(xgboost_model, tmp_path, change)
    with pytest.raises(ModelFormatError, match=message):
        Predictor.load(tmp_path)


def test_what_a_later_release_notes_beside_is_ignored(xgboost_model: Path, tmp_path: Path) -> None:
    features = [{**feature.model_dump(), "unit": "km"} for feature in FEATURES]
    changed_manifest(xgboost_model, tmp_path, {"features": features, "trained_by": "somebody"})
    assert read_manifest(tmp_path) == read_manifest(xgboost_model)
    columns = some_columns(50)
    np.testing.assert_array_equal(
        Predictor.load(tmp_path).predict(columns), Predictor.load(xgboost_model).predict(columns)
    )
    with pytest.raises(ValidationError, match="trained_by"):  # what is made is as strict as ever
        Manifest(**{**dict(read_manifest(tmp_path)), "trained_by": "somebody"})


def test_a_model_of_a_newer_format_is_refused_in_one_sentence(xgboost_model: Path, tmp_path: Path) -> None:
    changed_manifest(xgboost_model, tmp_path, {"format_version": 3, "task": "ranking"})
    with pytest.raises(ModelFormatError) as refused:
        Predictor.load(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}/manifest.json: the images are older than the model, which is in format version 3 (they read 2): "
        "run `make images`"
    )


@pytest.mark.parametrize("content", [b"", b"not a model", b"{}", b"\xff\xfe"])
@pytest.mark.parametrize("engine", ["xgboost", "lightgbm", "onnx"])
def test_a_broken_model_file_is_refused(
    content: bytes, engine: str, xgboost_model: Path, lightgbm_model: Path, sklearn_model: Path, tmp_path: Path
) -> None:
    models = {"xgboost": xgboost_model, "lightgbm": lightgbm_model, "onnx": sklearn_model}
    shutil.copytree(models[engine], tmp_path, dirs_exist_ok=True)
    (tmp_path / read_manifest(tmp_path).model_file).write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"model\.(ubj|txt|onnx): not an?"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize("engine", ["xgboost", "lightgbm"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_model_file_that_was_cut_short_is_refused(
    engine: str, part: float, saved_models: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    shutil.copytree(saved_models[engine, "binary"], tmp_path, dirs_exist_ok=True)
    path = tmp_path / read_manifest(tmp_path).model_file
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ModelFormatError, match=r"model\.(ubj|txt): not an?"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize("engine", ["xgboost", "lightgbm"])
def test_a_model_that_takes_other_inputs_is_refused(
    engine: str, saved_models: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    shutil.copytree(saved_models[engine, "binary"], tmp_path, dirs_exist_ok=True)
    manifest = read_manifest(tmp_path)
    write_manifest(tmp_path, Manifest(**{**dict(manifest), "features": manifest.features[:2]}))
    with pytest.raises(ModelFormatError, match="does not fit its manifest"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize("engine", ["xgboost", "lightgbm"])
@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("binary", {"task": "multiclass", "classes": ["a", "b", "c"]}, r"shape \(1,\); a multiclass model .* \(1, 3\)"),
        ("multiclass", {"classes": ["a", "b"]}, r"shape \(1, 3\); .*\['a', 'b'\] answers \(1, 2\)"),
        ("multiclass", {"task": "regression", "classes": None}, r"shape \(1, 3\); a regression model .* \(1,\)"),
    ],
)
def test_a_model_that_answers_otherwise_is_refused(
    engine: str,
    task: str,
    change: dict[str, Any],
    message: str,
    saved_models: dict[tuple[str, str], Path],
    tmp_path: Path,
) -> None:
    shutil.copytree(saved_models[engine, task], tmp_path, dirs_exist_ok=True)
    write_manifest(tmp_path, Manifest(**{**dict(read_manifest(tmp_path)), **change}))
    with pytest.raises(ModelFormatError, match=message):
        Predictor.load(tmp_path)
