"""How fast a model answers, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.documents.evaluation import Latency
from modelformat import Predictor

BATCH = 1000
_SECONDS = 0.3
_REPEATS = 200
_WARM_UP = 3


def measure(predictor: Predictor, columns: Mapping[str, NDArray[Any]]) -> Latency | None:
    """Time predictions of one row and of 1,000, for about half a second in all.

    Args:
        columns: rows to predict, repeated where there are too few; see `Predictor.predict`.

    Returns:
        None without rows.
    """
    rows = len(next(iter(columns.values())))
    if not rows:
        return None
    batch = {name: columns[name][np.arange(BATCH) % rows] for name in predictor.encoder.names}
    single = {name: values[:1] for name, values in batch.items()}
    return Latency(
        single_ms=median_ms(lambda: predictor.predict(single)),
        batch_ms=median_ms(lambda: predictor.predict(batch)) / BATCH,
    )


def median_ms(call: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the median milliseconds of a call, after a warm-up; long ones are repeated less often."""
    for _ in range(_WARM_UP):
        call()
    took: list[float] = []
    while len(took) < 5 or (len(took) < _REPEATS and sum(took) < _SECONDS):
        started = clock()
        call()
        took.append(clock() - started)
    return float(np.median(took)) * 1000
