"""What the serving benchmark runs in: the environments, the model, and what processes take."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from local import bootstrap

ROOT = Path(__file__).resolve().parents[1]
ENVS = ROOT / ".local" / "envs"
REQUIREMENTS = Path(__file__).with_name("serving.in")


class BenchmarkError(Exception):
    """It cannot be measured; the message says why."""


def clean_environment() -> dict[str, str]:
    """Return what every contender gets: one thread per prediction, none of the caller's settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def tree_mib(pid: int, *, root: bool = True) -> float:
    """Return the proportional memory of a process and its descendants, or of these alone."""
    process = psutil.Process(pid)
    total = 0
    for one in [*([process] if root else []), *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += one.memory_full_info().pss
    return total / 2**20


def install_others() -> None:
    """Install the servers that ours is measured against, once.

    Raises:
        BenchmarkError: that fails.
    """
    bench, wanted = ENVS / "bench-serving", REQUIREMENTS.read_text(encoding="utf-8")
    complete = bench / ".complete"
    if complete.exists() and complete.read_text(encoding="utf-8") == wanted:
        return
    say(f"installing MLflow and BentoML into {bench.relative_to(ROOT)}")
    try:
        uv = bootstrap.find_or_install_uv()
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, "--clear", bench], check=True)
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--python", bench / "bin/python", "-r", REQUIREMENTS], check=True
        )
    except (bootstrap.SetupError, OSError, subprocess.CalledProcessError) as error:
        raise BenchmarkError(f"{bench} could not be made: {error}") from None
    complete.write_text(wanted, encoding="utf-8")


def make_model(folder: Path, seed: int = 1) -> dict[str, Any]:
    """Make the model in `folder`/model; return names, rows and codes."""
    path = os.pathsep.join(str(ROOT / part) for part in (".", "containers/serving/src"))
    run_python("trainer", {"PYTHONPATH": path}, "-m", "benchmarks.serving_model", str(folder), "--seed", str(seed))
    content: dict[str, Any] = json.loads((folder / "rows.json").read_text(encoding="utf-8"))
    return content


def run_python(environment: str, variables: Mapping[str, str], *arguments: str) -> str:
    """Run Python of one of the environments; return what it writes.

    Raises:
        BenchmarkError: it fails.
    """
    python = ENVS / environment / "bin/python"
    if not python.exists():
        raise BenchmarkError(f"{python} is missing: run `make setup`")
    done = subprocess.run(
        [python, *arguments],
        env={**clean_environment(), **variables},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise BenchmarkError(f"{' '.join(arguments[:3])} ended with {done.returncode}: {done.stderr[-1500:]}")
    if notes := [line for line in done.stderr.splitlines() if line.startswith("no ONNX model")]:
        say(notes[0])
    return done.stdout


def say(text: str) -> None:
    """Tell of progress."""
    print(f"serving: {text}", file=sys.stderr, flush=True)
