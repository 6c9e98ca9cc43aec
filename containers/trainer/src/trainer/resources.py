"""How many threads a step may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def _quota(cpu_max: Path) -> float:
    """Return the container's CPU limit in cores (control group version 2), infinite where there is none."""
    try:
        quota, period = cpu_max.read_text(encoding="ascii").split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf


def threads(cpu_max: Path = CPU_MAX) -> int:
    """Return the number of threads to compute with.

    ``TRAINER_THREADS`` and then ``OMP_NUM_THREADS`` decide if set; otherwise the cores this process may
    run on, within the container's CPU limit: more threads than that are only throttled.
    """
    for name in ("TRAINER_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, math.ceil(min(_quota(cpu_max), cores))))
