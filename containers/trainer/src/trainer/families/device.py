"""What a family computes on. Without torch: those that need it here do not have it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from mlplatform.config.base import Device
from mlplatform.errors import NonRetryableError

log = logging.getLogger(__name__)


def gpu_is_there(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> bool:
    """Whether this container was given an NVIDIA GPU: a device node that nobody has hidden."""
    hidden = environment.get("NVIDIA_VISIBLE_DEVICES") in ("void", "none")
    hidden = hidden or environment.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    # A pod with one GPU of several may see it under any number.
    return not hidden and any(devices.glob("nvidia[0-9]*"))


def choose_device(
    family: str, device: Device, obstacle: Callable[[], str | None], is_there: Callable[[], bool] = gpu_is_there
) -> Literal["cpu", "cuda"]:
    """Return what to compute on.

    Args:
        device: what the run asks for.
        obstacle: why this family cannot use a GPU that is there, None if it can.

    Raises:
        NonRetryableError: the run asks for a GPU, and there is none or the family cannot use it.
    """
    if device == "cpu":
        return "cpu"
    if not is_there():
        if device == "auto":
            return "cpu"
        raise NonRetryableError(
            f"training.device is cuda, and this pod has no GPU for {family}: give step train `gpus: 1`, "
            "or set device to auto or cpu",
            kind="bad-config",
        )
    why = obstacle()
    if why is None:
        return "cuda"
    if device == "auto":
        log.warning("%s computes on the CPU: %s", family, why)
        return "cpu"
    raise NonRetryableError(f"training.device is cuda: {why}; set device to auto or cpu", kind="bad-config")
