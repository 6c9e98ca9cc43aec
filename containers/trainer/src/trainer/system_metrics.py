"""What training uses of its container and of its GPUs, for the charts of an MLflow run.

Under the names of MLflow's own system metrics, which its pages show apart from the others. MLflow reads them by
psutil, of the whole node; here they are of the container, from where the kernel shows them.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trainer.resources import threads
from trainer.tracking import TrialRun

SAMPLE_SECONDS = 10.0
MIB = 2**20

CGROUP = Path("/sys/fs/cgroup")
PROC = Path("/proc")

log = logging.getLogger(__name__)


class Usage:
    """Reads how much is used. What a platform does not show is left out.

    Args:
        cgroup: the container's control group (version 2).
        proc: where the kernel shows processes and network.
        gpus: NVML's module, initialised; None where there is no GPU.
    """

    def __init__(self, cgroup: Path = CGROUP, proc: Path = PROC, gpus: Any = None) -> None:
        self._cgroup, self._proc, self._gpus = cgroup, proc, gpus
        self._network_at_start = self._network()
        self._cpu_before = (time.monotonic(), self._cpu_seconds())

    def sample(self) -> dict[str, float]:
        """Return what is used now; the CPU since the last sample."""
        found: dict[str, float] = {}
        now, seconds = time.monotonic(), self._cpu_seconds()
        then, before = self._cpu_before
        if now > then:
            found["cpu_utilization_percentage"] = 100 * (seconds - before) / (now - then) / threads()
        self._cpu_before = now, seconds
        if (memory := self._memory()) is not None:
            found["system_memory_usage_megabytes"] = memory / MIB
            if limit := _number(self._cgroup / "memory.max"):
                found["system_memory_usage_percentage"] = 100 * memory / limit
        disk = shutil.disk_usage(tempfile.gettempdir())
        found["disk_usage_megabytes"] = disk.used / MIB
        found["disk_usage_percentage"] = 100 * disk.used / disk.total
        if (network := self._network()) and self._network_at_start:
            for name, value, start in zip(("receive", "transmit"), network, self._network_at_start, strict=True):
                found[f"network_{name}_megabytes"] = (value - start) / MIB
        return {f"system/{name}": value for name, value in {**found, **self._gpu()}.items()}

    def _cpu_seconds(self) -> float:
        """CPU time of the container, else of this process and the children it has waited for."""
        try:
            fields = dict(line.split() for line in (self._cgroup / "cpu.stat").read_text("ascii").splitlines())
            return int(fields["usage_usec"]) / 1e6
        except (OSError, ValueError, KeyError):
            return sum(os.times()[:4])

    def _memory(self) -> float | None:
        """Memory of the container, else the resident set of this process."""
        if (used := _number(self._cgroup / "memory.current")) is not None:
            return used
        try:
            pages = int((self._proc / "self/statm").read_text("ascii").split()[1])
        except (OSError, ValueError, IndexError):
            return None
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _network(self) -> tuple[int, int] | None:
        """Bytes received and sent on all interfaces but the loopback."""
        try:
            lines = (self._proc / "self/net/dev").read_text("ascii").splitlines()[2:]
        except OSError:
            return None
        fields = [(name.strip(), values.split()) for name, _, values in (line.partition(":") for line in lines)]
        outside = [values for name, values in fields if name != "lo"]
        return sum(int(values[0]) for values in outside), sum(int(values[8]) for values in outside)

    def _gpu(self) -> dict[str, float]:
        nvml, found = self._gpus, dict[str, float]()
        if nvml is None:
            return found
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                device = nvml.nvmlDeviceGetHandleByIndex(index)
                memory, rates = nvml.nvmlDeviceGetMemoryInfo(device), nvml.nvmlDeviceGetUtilizationRates(device)
                found[f"gpu_{index}_utilization_percentage"] = float(rates.gpu)
                found[f"gpu_{index}_memory_usage_megabytes"] = memory.used / MIB
                found[f"gpu_{index}_memory_usage_percentage"] = 100 * memory.used / memory.total
                found[f"gpu_{index}_power_usage_watts"] = nvml.nvmlDeviceGetPowerUsage(device) / 1000
            except nvml.NVMLError as error:
                log.debug("GPU %d: %s", index, error)  # a slice of a GPU (MIG) does not tell everything
        return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):  # "max": no limit
        return None


@contextmanager
def _nvml() -> Iterator[Any]:
    """NVML's module, initialised, or None where there is no driver or no such module."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # NVML has an error class per reason
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


@contextmanager
def sampling(runs: Sequence[TrialRun], every: float = SAMPLE_SECONDS) -> Iterator[None]:
    """Log what is used to MLflow runs within the block, from a thread of its own."""
    ended = threading.Event()

    def sample_now_and_then() -> None:
        with _nvml() as gpus:
            usage = Usage(gpus=gpus)
            last = False
            while not last:
                last = ended.wait(every)  # one more at the end: of a short training it is the only one
                try:
                    _log(runs, usage.sample(), int(time.time() * 1000))
                except Exception as error:  # charts are not worth a training
                    log.warning("system metrics end here: %s: %s", type(error).__name__, error)
                    return

    thread = threading.Thread(target=sample_now_and_then, name="system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(1)


def _log(runs: Sequence[TrialRun], metrics: Mapping[str, float], now_ms: int) -> None:
    for run in runs:
        # The second of the run's life: it goes on counting in another attempt.
        run.metrics.add((now_ms - run.start_time_ms) // 1000, metrics, now_ms)
