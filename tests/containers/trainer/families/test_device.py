from __future__ import annotations

import logging
from pathlib import Path

import pytest
from parcel_tasks import CASES, digest, fit, make_task

from mlplatform.config.base import Device
from mlplatform.errors import NonRetryableError
from trainer.families import lightgbm
from trainer.families.device import choose_device, gpu_is_there


@pytest.mark.parametrize(
    ("node", "environment", "expected"),
    [
        ("nvidia0", {}, True),
        ("nvidia3", {"NVIDIA_VISIBLE_DEVICES": "GPU-1a2b"}, True),
        ("nvidiactl", {"NVIDIA_VISIBLE_DEVICES": "all"}, False),
        ("null", {}, False),
        ("nvidia0", {"NVIDIA_VISIBLE_DEVICES": "void"}, False),
        ("nvidia0", {"CUDA_VISIBLE_DEVICES": ""}, False),
        ("nvidia0", {"CUDA_VISIBLE_DEVICES": "-1"}, False),
        ("nvidia0", {"CUDA_VISIBLE_DEVICES": "0"}, True),
    ],
)
def test_a_gpu_is_a_device_that_nobody_has_hidden(
    node: str, environment: dict[str, str], expected: bool, tmp_path: Path
) -> None:
    (tmp_path / node).touch()
    assert gpu_is_there(environment, tmp_path) is expected


@pytest.mark.parametrize(
    ("device", "there", "obstacle", "expected"),
    [
        ("cpu", True, None, "cpu"),
        ("auto", False, None, "cpu"),
        ("auto", True, None, "cuda"),
        ("cuda", True, None, "cuda"),
        ("auto", True, "it is built without", "cpu"),
    ],
)
def test_what_is_computed_on(
    device: Device, there: bool, obstacle: str | None, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert choose_device("XGBoost", device, lambda: obstacle, lambda: there) == expected
    assert ("XGBoost computes on the CPU: it is built without" in caplog.text) is (obstacle is not None)


@pytest.mark.parametrize(
    ("there", "message"), [(False, "no GPU for XGBoost: give step train `gpus: 1`"), (True, "it is built without")]
)
def test_a_gpu_that_cannot_be_used_is_refused(there: bool, message: str) -> None:
    with pytest.raises(NonRetryableError, match=message) as caught:
        choose_device("XGBoost", "cuda", lambda: "it is built without", lambda: there)
    assert caught.value.kind == "bad-config"


@pytest.mark.skipif(gpu_is_there(), reason="there is a GPU")
@pytest.mark.parametrize("case", CASES)
def test_a_family_refuses_cuda_without_a_gpu(case: str) -> None:
    with pytest.raises(NonRetryableError, match=r"training\.device is cuda.*set device to auto or cpu"):
        fit(case, make_task("binary", device="cuda"))


@pytest.mark.skipif(gpu_is_there(), reason="there is a GPU")
@pytest.mark.parametrize("case", CASES)
def test_auto_without_a_gpu_is_the_cpu(case: str, tmp_path: Path) -> None:
    models = {digest(fit(case, make_task("binary", device=device)), tmp_path / device) for device in ("auto", "cpu")}
    assert len(models) == 1


def test_lightgbm_says_why_it_cannot_use_a_gpu() -> None:
    assert "max_bin up to 255, not 256" in str(lightgbm._obstacle(256))
    if not gpu_is_there():
        assert "LightGBM cannot use the GPU" in str(lightgbm._obstacle(255))
