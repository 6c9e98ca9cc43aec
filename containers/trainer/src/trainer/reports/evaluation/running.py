"""The section on running the model: how fast and how large it is."""

from __future__ import annotations

from mlplatform.documents.evaluation import EvaluateResult, Score
from trainer.reports import decimal, size


def costs(result: EvaluateResult) -> list[tuple[str, str, str]]:
    """Return latency and size, each with the values of candidate and champion."""

    def of(score: Score | None, what: str) -> str:
        if score is None:
            return decimal(None)
        if what == "size":
            return decimal(None) if score.model_bytes is None else size(score.model_bytes)
        if score.latency is None:
            return decimal(None)
        if what == "single":
            return f"{score.latency.single_ms:.3g} ms"
        return f"{score.latency.batch_ms * 1000:.3g} µs"

    names = {
        "single": "One row alone, median",
        "batch": "Per row, 1,000 at once, median",
        "size": "Size of the saved model",
    }
    return [(name, of(result.candidate, what), of(result.champion, what)) for what, name in names.items()]
