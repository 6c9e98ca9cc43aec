"""The booster as a BentoML service of one worker; without pandas, which would make it slower."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional

import bentoml

from benchmarks.serving_by_hand import Scores


@bentoml.service(workers=1, traffic={"timeout": 60})
class Service:
    """Takes the same bodies as MLflow."""

    def __init__(self) -> None:
        self._scores = Scores(Path(os.environ["BENCH_MODEL"]))

    @bentoml.api
    def invocations(
        self,
        dataframe_records: Optional[list[dict[str, Any]]] = None,  # noqa: UP045  # BentoML reads it as it stands
        dataframe_split: Optional[dict[str, Any]] = None,  # noqa: UP045
    ) -> list[float]:
        """Predict rows."""
        if dataframe_records is not None:
            return self._scores.of_columns({n: [row[n] for row in dataframe_records] for n in self._scores.codes})
        assert dataframe_split is not None
        columns = zip(*dataframe_split["data"], strict=True)
        return self._scores.of_columns(dict(zip(dataframe_split["columns"], columns, strict=True)))
