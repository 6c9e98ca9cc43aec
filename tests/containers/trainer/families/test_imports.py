from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("code", "never"),
    [
        ("import trainer.families.xgboost; modelformat.import_xgboost()", ["sklearn", "pandas", "lightgbm"]),
        ("import trainer.families.lightgbm; modelformat.import_lightgbm()", ["sklearn", "pandas", "xgboost"]),
        ("import trainer.families.sklearn", ["sklearn", "pandas", "xgboost", "lightgbm", "onnx"]),
        ("import trainer.metrics", ["sklearn", "scipy", "pandas", "xgboost", "lightgbm", "onnx"]),
    ],
)
def test_a_family_imports_what_it_needs_and_nothing_slow(code: str, never: list[str]) -> None:
    code = f"import sys, modelformat; {code}; print([name for name in {never!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_what_was_hidden_can_be_imported_afterwards() -> None:
    code = (
        "import sys, modelformat; modelformat.import_lightgbm(); modelformat.import_xgboost();"
        "import sklearn.linear_model, pandas; print('fine')"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "fine"


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("trainer.validate", ["sklearn", "pandas", "mlflow", "xgboost", "lightgbm", "pyarrow"]),
        ("trainer.prepare", ["sklearn", "pandas", "mlflow", "xgboost", "lightgbm", "pyarrow"]),
        ("trainer.train", ["sklearn", "pandas", "xgboost", "lightgbm"]),
        ("trainer.evaluate", ["sklearn", "pandas", "xgboost", "lightgbm"]),
    ],
)
def test_a_step_does_not_import_what_it_does_not_need(module: str, never: list[str]) -> None:
    code = f"import sys, {module}; print([name for name in {never!r} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
