"""What a run's search may cost: the GPU-hours of all its training pods."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable

from mlplatform.documents.base import Document
from mlplatform.documents.results import TrainResult, TrialResult
from mlplatform.steps import RESULT
from mlplatform.storage import join, list_objects, read_document, split_uri

CHECK_SECONDS = 60.0
"""How often the other pods are asked while a trial trains."""

_POD = re.compile(r"(?P<pods>.*/train)/(?P<pod>\d+)")
_DOCUMENT = re.compile(r"(?P<pod>\d+)/(?:(?P<result>result)|trials/\d+)\.json")


class EndedTrial(Document):
    """``trials/<number>.json`` of a pod: a trial that came to its end, while others of the pod may still train."""

    result: TrialResult


def gpus_held() -> int:
    """Return how many GPUs the processes that train together hold, whether they use them or not."""
    nodes = max(1, _number("WORLD_SIZE") // max(1, _number("LOCAL_WORLD_SIZE")))
    return nodes * _own_gpus()


def _number(variable: str) -> int:
    value = os.environ.get(variable, "")
    return int(value) if value.isdigit() else 1


def _own_gpus() -> int:
    """GPUs of this pod: as its container was given them, else as its driver counts them."""
    visible = os.environ.get("NVIDIA_VISIBLE_DEVICES", "").strip()
    if visible == "none":
        return 0
    # Where devices come by CDI the variable says `void`; `all` is for the driver to count, too.
    if visible not in ("", "all", "void"):
        return len([device for device in visible.split(",") if device.strip()])
    try:
        import pynvml  # in the image with CUDA only

        pynvml.nvmlInit()
        try:
            return int(pynvml.nvmlDeviceGetCount())
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # not installed, or no driver: NVML has an error class per reason
        torch = sys.modules.get("torch")
        return int(torch.cuda.device_count()) if torch is not None else 0


class Budget:
    """``search.maximum_gpu_hours`` of a run, as one of its training pods sees it.

    Counted is what finished trials of all pods report, and what this pod's own trials have used so far. Trials that
    train in other pods at the same time are seen when they end, so a run may use a little more than the limit: at
    most what its parallel pods use during one trial.

    Args:
        maximum_gpu_hours: None for no limit.
        output: of this pod, ``<run>/train/<number>``.
        clock: seconds, monotonic.
    """

    def __init__(
        self, maximum_gpu_hours: float | None, output: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.maximum_gpu_hours = maximum_gpu_hours
        self._place = _POD.fullmatch(output.rstrip("/"))
        self._clock = clock
        self._others = 0.0
        self._finished: dict[str, float] = {}  # a pod's result does not change any more
        self._asked: float | None = None

    def exceeded(self, own_gpu_seconds: float, *, now: bool = False) -> str | None:
        """Return why no more may be computed, None while there is something left.

        Args:
            own_gpu_seconds: of this pod's trials, those of earlier attempts and the running one included.
            now: ask the other pods, however short ago they were asked.
        """
        if self.maximum_gpu_hours is None:
            return None
        if now or self._asked is None or self._clock() - self._asked >= CHECK_SECONDS:
            self._others = self._gpu_seconds_of_others()
            self._asked = self._clock()
        used = (self._others + own_gpu_seconds) / 3600
        if used < self.maximum_gpu_hours:
            return None
        return f"search.maximum_gpu_hours: the run has used {used:.2f} of {self.maximum_gpu_hours:g} GPU-hours"

    def _gpu_seconds_of_others(self) -> float:
        if self._place is None:
            return 0.0
        folder = self._place["pods"] + "/"
        bucket, start = split_uri(folder)
        results: set[str] = set()
        trials: dict[str, list[str]] = {}
        for entry in list_objects(folder):
            found = _DOCUMENT.fullmatch(str(entry["Key"]).removeprefix(start))
            if found is None or found["pod"] == self._place["pod"]:
                continue
            if found["result"]:
                results.add(found["pod"])
            else:
                trials.setdefault(found["pod"], []).append(f"s3://{bucket}/{entry['Key']}")
        for pod in results - self._finished.keys():
            result = read_document(join(folder, pod, RESULT), TrainResult)
            self._finished[pod] = sum(trial.gpu_seconds for trial in result.trials)
        running = (uri for pod, uris in trials.items() if pod not in results for uri in uris)
        ended = (read_document(uri, EndedTrial).result for uri in running)
        return sum(self._finished.values()) + sum(trial.gpu_seconds for trial in ended)
