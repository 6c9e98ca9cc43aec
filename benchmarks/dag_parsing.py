"""Parses the files of a DAG bundle as Airflow's DAG processor does, and tells what each took.

    python -m benchmarks.dag_parsing BUNDLE [DAG]

Each file is parsed in a process of its own, forked from one that has imported Airflow: Airflow's own function parses it
and writes its DAGs down. With the id of a DAG, as in the process of one of its tasks: only its file, and Airflow says
whose task it is. Prints one JSON object by file. Runs in Airflow's environment.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

TASK_OF = "_AIRFLOW_PARSING_CONTEXT_DAG_ID"


@dataclass(frozen=True)
class Parsed:
    """What one file took in its process, and what it made."""

    file: str
    cpu: float
    peak_mib: float
    dags: int


def measure(do: Callable[[], int]) -> tuple[float, float, int]:
    """Do something in a forked process; return its processor's seconds, its peak of memory in MiB, and its number.

    Raises:
        RuntimeError: it failed.
    """
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        status = 1
        try:
            os.write(writing, str(do()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError("the process that parses failed: see above")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, int(told)


def parse(file: Path, bundle: Path) -> int:
    """Parse a file, write its DAGs down, and return how many there are.

    Raises:
        RuntimeError: it cannot be imported.
    """
    import structlog
    from airflow.dag_processing.processor import DagFileParseRequest, _parse_file

    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "client"
    request = DagFileParseRequest(file=str(file), bundle_path=bundle, bundle_name="benchmark", callback_requests=[])
    found = _parse_file(request, structlog.get_logger("task"))
    assert found is not None
    if found.import_errors:
        raise RuntimeError(str(found.import_errors))
    return len(found.serialized_dags)


def main() -> None:
    """Measure and print."""
    bundle = Path(sys.argv[1])
    task_of = sys.argv[2] if len(sys.argv) > 2 else None
    import structlog
    from airflow.dag_processing.processor import _pre_import_airflow_modules

    log = structlog.get_logger("task")
    for file in sorted(bundle.glob("*.py")):
        if task_of and not file.stem.startswith(task_of.partition("__")[0]):
            continue
        if task_of:
            os.environ[TASK_OF] = task_of
        _pre_import_airflow_modules(str(file), log)
        print(json.dumps(asdict(Parsed(file.name, *measure(partial(parse, file, bundle))))), flush=True)


if __name__ == "__main__":
    main()
