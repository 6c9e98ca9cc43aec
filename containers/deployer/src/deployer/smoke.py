"""Whether a live endpoint answers as the model did when it was evaluated. Pure functions."""

from __future__ import annotations

import json
import math
from typing import Any

from mlplatform.config.base import TaskKind
from mlplatform.documents.evaluation import Examples

TOLERANCE = 1e-4
"""Of a probability; of a number, as a share of the largest one that is expected."""


class SmokeError(Exception):
    """The endpoint does not answer as it should; the message says how."""


def make_request(examples: Examples) -> bytes:
    """Return the body of one request with all examples."""
    return json.dumps({"instances": [example.features for example in examples.examples]}).encode()


def check_answer(
    body: bytes, examples: Examples, version: str, digest: str, task: TaskKind, *, compare: bool = True
) -> float | None:
    """Return the largest difference between an answered and an expected number.

    Args:
        body: the answer.
        examples: what was asked, with the expected predictions.
        version: that shall have answered.
        digest: of its files.
        task: decides how close is close enough.
        compare: whether the predictions are this version's; if not, only their form is looked at, and None returned.

    Raises:
        SmokeError: another model answered, or a prediction is missing, not finite, of another shape, or differs by
            more than ``TOLERANCE``.
    """
    try:
        answer = json.loads(body)
        predictions, model = answer["predictions"], answer["model"]
        answered = (model["version"], model["digest"])
    except (ValueError, KeyError, TypeError):
        raise SmokeError(f"the answer is not a prediction: {body[:200]!r}") from None
    if answered != (version, digest):
        raise SmokeError(f"version {answered[0]} (digest {answered[1]}) answered, not version {version}")
    if not isinstance(predictions, list) or len(predictions) != len(examples.examples):
        raise SmokeError(f"the answer does not have {len(examples.examples)} predictions")
    expected = [_numbers(example.prediction) for example in examples.examples]
    largest = max(abs(number) for numbers in expected for number in numbers)
    tolerance = TOLERANCE * largest if task == "regression" else TOLERANCE
    worst = 0.0
    for row, (given, example, numbers) in enumerate(zip(predictions, examples.examples, expected, strict=True)):
        got = _numbers(given)
        if isinstance(given, list) != isinstance(example.prediction, list) or len(got) != len(numbers):
            raise SmokeError(f"row {row}: the prediction is {given!r}, expected {example.prediction!r}")
        for one, other in zip(got, numbers, strict=True):
            if isinstance(one, bool) or not isinstance(one, int | float) or not math.isfinite(one):
                raise SmokeError(f"row {row}: the prediction is {given!r}")
            if compare and not abs(one - other) <= tolerance:
                raise SmokeError(f"row {row}: predicted {one:.6g}, expected {other:.6g}")
            worst = max(worst, abs(one - other))
    return worst if compare else None


def _numbers(prediction: Any) -> list[Any]:
    return prediction if isinstance(prediction, list) else [prediction]
