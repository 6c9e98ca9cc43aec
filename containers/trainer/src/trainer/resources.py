"""How many threads and how much memory a step may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
MEMORY_MAX = Path("/sys/fs/cgroup/memory.max")
UNLIMITED_SHARE = 0.25
"""Part of the machine's memory that a step takes for its own where nothing limits it: it is not alone there."""


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


def memory(memory_max: Path = MEMORY_MAX) -> int:
    """Return how many bytes of memory the step has.

    ``TRAINER_MEMORY_MIB`` decides if set; otherwise the container's limit (control group version 2), and where
    there is none a quarter of the machine's memory.
    """
    value = os.environ.get("TRAINER_MEMORY_MIB", "")
    if value.isdigit() and int(value) > 0:
        return int(value) * 2**20
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        # "max" is no number: no limit. A limit above the machine's memory is none either.
        limit = int(memory_max.read_text(encoding="ascii"))
    except (OSError, ValueError):
        limit = machine
    return limit if limit < machine else int(machine * UNLIMITED_SHARE)
