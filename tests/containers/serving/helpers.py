"""What the tests of serving share: features, rows, the real process."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from modelformat import CategoryFeature, NumberFeature

FIXTURES = Path(__file__).parent / "fixtures"
FEATURES = [
    NumberFeature(name="distance"),
    CategoryFeature(name="carrier", categories=["AA", "UA", "Ünïted ✈"]),
    NumberFeature(name="wind"),
]
ROW = {"distance": 800.0, "carrier": "UA", "wind": 3.5}


def some_columns(rows: int, seed: int = 1) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    wind = random.normal(size=rows)
    wind[random.random(rows) < 0.2] = np.nan
    return {
        "distance": random.uniform(100, 2000, rows),
        "carrier": random.choice(np.array(["AA", "UA", "Ünïted ✈", "other", None], dtype=object), rows),
        "wind": wind,
    }


def as_instances(columns: dict[str, Any]) -> list[dict[str, Any]]:
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return [{n: None if v != v else v for n, v in zip(columns, row, strict=True)} for row in rows]


class Server:
    """The real process."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process = process
        self.url = url
        self._log = log

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines()]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)
