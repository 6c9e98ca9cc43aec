"""Where a training runs: with a GPU or without one, and in which image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlplatform.config import loading
from mlplatform.config.base import Device
from mlplatform.config.environment import Settings
from mlplatform.config.family import FamilySpec


def uses_gpu(settings: Settings, family: FamilySpec, device: Device) -> bool:
    """Tell whether a training's pods ask for GPUs: there are some, they are wanted, and the family can use them."""
    there = settings.kubernetes.gpus and settings.steps["train"].gpus > 0
    return there and device != "cpu" and "cuda" in family.devices


def train_image(settings: Settings, family: FamilySpec, device: Device) -> str:
    """Return the image of a training's pods: the one with CUDA for a GPU, or for a family that is in no other."""
    cuda = family.image == "trainer_cuda" or uses_gpu(settings, family, device)
    return settings.images.trainer_cuda if cuda else settings.images.trainer


def of_params(settings: Settings, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `uses_gpu` and `train_image` say of a DAG run, for templates."""
    family = loading.load_family(params["family"])
    return {
        "gpu": uses_gpu(settings, family, params["device"]),
        "image": train_image(settings, family, params["device"]),
    }
