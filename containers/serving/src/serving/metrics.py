"""Numbers of all workers, for Prometheus.

Every worker writes into a row of its own of one table in shared memory, made before the workers are; whichever
worker is asked adds the rows up. So an answer costs no lock and no file, and a worker that is started again goes on
where the last one stopped. (The Prometheus library's way for several processes needs a writable folder, a file per
process, and someone who clears the files of dead processes away.)
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

# HTTP status and code of every kind of answer; "ok" must be first.
OUTCOMES = (
    (200, "ok"),
    (400, "bad-input"),
    (404, "not-found"),
    (405, "method-not-allowed"),
    (406, "not-acceptable"),
    (413, "too-large"),
    (415, "unsupported-media-type"),
    (499, "client-gone"),
    (500, "internal"),
    (503, "model-broken"),
    (503, "no-model"),
    (503, "saturated"),
)
_OUTCOME = {code: index for index, (_, code) in enumerate(OUTCOMES)}
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_PID, _IN_FLIGHT, _WAITING, _ROWS, _SECONDS = range(5)
_FIRST_BUCKET = 5
_FIRST_OUTCOME = _FIRST_BUCKET + len(BUCKETS) + 1
_WIDTH = _FIRST_OUTCOME + len(OUTCOMES)


class Table:
    """The shared table: a row per worker, and the number of restarts."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._memory = mmap.mmap(-1, 8 * (_WIDTH * workers + 1))  # anonymous and shared with children
        self.values = memoryview(self._memory).cast("d")

    def row(self, worker: int) -> memoryview[float]:
        """Return a worker's numbers."""
        return self.values[worker * _WIDTH : (worker + 1) * _WIDTH]

    @property
    def restarts(self) -> int:
        """How often a worker was started again. Written by the supervisor only."""
        return int(self.values[-1])

    @restarts.setter
    def restarts(self, value: int) -> None:
        self.values[-1] = value


class Metrics:
    """One worker's numbers."""

    def __init__(self, table: Table | None = None, worker: int = 0) -> None:
        self.table = table or Table(1)
        self._row = self.table.row(worker)
        self._row[_PID] = os.getpid()
        self._row[_IN_FLIGHT] = self._row[_WAITING] = 0  # nothing is left of those of a worker that died

    @property
    def in_flight(self) -> int:
        """Requests in progress in this worker."""
        return int(self._row[_IN_FLIGHT])

    def begin(self) -> None:
        """Count a request that has begun."""
        self._row[_IN_FLIGHT] += 1

    def end(self, code: str, seconds: float, rows: int) -> None:
        """Count its end.

        Args:
            code: of `OUTCOMES`.
        """
        row = self._row
        row[_IN_FLIGHT] -= 1
        row[_ROWS] += rows
        row[_SECONDS] += seconds
        row[_FIRST_BUCKET + bisect_left(BUCKETS, seconds)] += 1
        row[_FIRST_OUTCOME + _OUTCOME[code]] += 1

    def wait(self, change: int) -> None:
        """Count requests that wait for a thread."""
        self._row[_WAITING] += change


def render(table: Table, info: dict[str, str]) -> bytes:
    """Return all workers' numbers in Prometheus's text format.

    Args:
        info: labels that say which model this is.
    """
    rows = [table.row(worker).tolist() for worker in range(table.workers)]
    total = [sum(column) for column in zip(*rows, strict=True)]
    lines: list[str] = []

    def family(name: str, kind: str, text: str, samples: Sequence[tuple[str, float]]) -> None:
        lines.append(f"# HELP {name} {text}")
        lines.append(f"# TYPE {name} {kind}")
        lines.extend(f"{name}{labels} {value:.17g}" for labels, value in samples)

    outcomes = zip(OUTCOMES, total[_FIRST_OUTCOME:], strict=True)
    family(
        "serving_requests_total",
        "counter",
        "Requests answered, but for /ping and /metrics.",
        [(_labels(status=str(status), code=code), value) for (status, code), value in outcomes],
    )
    cumulative = 0.0
    samples: list[tuple[str, float]] = []
    for bound, value in zip((*map(str, BUCKETS), "+Inf"), total[_FIRST_BUCKET:_FIRST_OUTCOME], strict=True):
        cumulative += value
        samples.append(("_bucket" + _labels(le=bound), cumulative))
    samples += [("_sum", total[_SECONDS]), ("_count", cumulative)]
    family("serving_request_seconds", "histogram", "From a request's head to the end of its answer.", samples)
    family("serving_rows_total", "counter", "Rows predicted.", [("", total[_ROWS])])
    family("serving_in_flight", "gauge", "Requests in progress.", [("", total[_IN_FLIGHT])])
    family(
        "serving_waiting", "gauge", "Of them, those with a large body that wait for a thread.", [("", total[_WAITING])]
    )
    family("serving_workers", "gauge", "Processes that answer.", [("", table.workers)])
    family("serving_worker_restarts_total", "counter", "Workers started again after an end.", [("", table.restarts)])
    family("serving_model_info", "gauge", "The model that is served.", [(_labels(**info), 1)])
    memory = [(_labels(process=name), value) for name, value in _memory(rows)]
    family("serving_memory_bytes", "gauge", "Memory, what is shared by n processes counted as 1/n (PSS).", memory)
    return ("\n".join(lines) + "\n").encode()


def _labels(**labels: str) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items()) + "}"


def _memory(rows: Sequence[Sequence[float]]) -> Iterator[tuple[str, int]]:
    named = [(f"worker-{worker}", int(row[_PID])) for worker, row in enumerate(rows)]
    named.append(("supervisor", os.getppid()))
    for name, pid in named:
        value = proportional_bytes(pid)
        if value is not None:
            yield name, value


def proportional_bytes(pid: int) -> int | None:
    """Return a process's proportional set size, None where the system does not tell."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
