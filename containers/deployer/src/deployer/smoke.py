"""Whether a live endpoint answers as the model did when it was evaluated. Pure functions."""

from __future__ import annotations

import json
import math

from mlplatform.results import Examples

TOLERANCE = 1e-4


class SmokeError(Exception):
    """The endpoint does not answer as it should; the message says how."""


def make_request(examples: Examples) -> bytes:
    """Return the body of one request with all examples."""
    return json.dumps({"instances": [example.features for example in examples.examples]}).encode()


def check_answer(body: bytes, examples: Examples, version: str, digest: str) -> float:
    """Return the largest difference between an answered and an expected prediction.

    Raises:
        SmokeError: another model answered, or a prediction is missing, not finite, or differs by more than
            ``TOLERANCE``.
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
    worst = 0.0
    for row, (got, example) in enumerate(zip(predictions, examples.examples, strict=True)):
        if not isinstance(got, int | float) or not math.isfinite(got):
            raise SmokeError(f"row {row}: the prediction is {got!r}")
        difference = abs(got - example.prediction)
        if not difference <= TOLERANCE:
            raise SmokeError(f"row {row}: predicted {got:.6g}, expected {example.prediction:.6g}")
        worst = max(worst, difference)
    return worst
