"""What the environment says about this server."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class SettingsError(ValueError):
    """An environment variable is wrong; the message names it and what is allowed."""


@dataclass(frozen=True)
class Settings:
    """Settings of one server; `from_environment` names the variables."""

    host: str = "127.0.0.1"
    port: int = 8080
    model_directory: Path = Path("/opt/ml/model")
    model_version: str | None = None
    model_digest: str | None = None
    max_body_bytes: int = 6 * 1024 * 1024
    max_decoded_bytes: int = 64 * 1024 * 1024
    max_in_flight: int = 256
    drain_seconds: int = 25
    workers: int = 1
    threads: int = 1
    spare_core: bool = False
    """Whether there are more usable cores than the workers' predictions take."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read the settings.

        =============================  =================================================================
        ``SERVING_HOST``               address to bind; the image sets 0.0.0.0
        ``SAGEMAKER_BIND_TO_PORT``     port to bind (8080)
        ``SM_MODEL_DIR``               directory of the saved model (/opt/ml/model)
        ``MODEL_VERSION``              registered version, reported with every prediction
        ``MODEL_DIGEST``               what the directory's digest must be
        ``SERVING_MAX_BODY_BYTES``     largest request body (6 MiB, the limit of the SageMaker runtime)
        ``SERVING_MAX_DECODED_BYTES``  largest Parquet or Arrow body once it is decoded (64 MiB)
        ``SERVING_MAX_IN_FLIGHT``      requests in progress in one worker above which it answers 503 (256)
        ``SERVING_DRAIN_SECONDS``      time for requests in progress after SIGTERM (25; SageMaker kills at 30)
        ``SERVING_WORKERS``            processes that answer, sharing one model (one per usable core)
        ``SERVING_THREADS``            threads of one prediction (1; more make a small request slower, see README.md)
        =============================  =================================================================

        Raises:
            SettingsError: a number is not one, or out of range.
        """

        def number(name: str, default: int, low: int, high: int) -> int:
            text = environment.get(name)
            if not text:
                return default
            if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
                raise SettingsError(f"{name}={text!r}: must be a whole number from {low} to {high}")
            return int(text)

        cores = usable_cores()
        workers = number("SERVING_WORKERS", cores, 1, 256)
        threads = number("SERVING_THREADS", cls.threads, 1, 256)
        return cls(
            host=environment.get("SERVING_HOST") or cls.host,
            port=number("SAGEMAKER_BIND_TO_PORT", cls.port, 1, 65535),
            model_directory=Path(environment.get("SM_MODEL_DIR") or cls.model_directory),
            model_version=environment.get("MODEL_VERSION") or None,
            model_digest=environment.get("MODEL_DIGEST") or None,
            max_body_bytes=number("SERVING_MAX_BODY_BYTES", cls.max_body_bytes, 1, 1 << 30),
            max_decoded_bytes=number("SERVING_MAX_DECODED_BYTES", cls.max_decoded_bytes, 1, 1 << 40),
            max_in_flight=number("SERVING_MAX_IN_FLIGHT", cls.max_in_flight, 1, 1 << 16),
            drain_seconds=number("SERVING_DRAIN_SECONDS", cls.drain_seconds, 0, 3600),
            workers=workers,
            threads=threads,
            spare_core=workers * threads < cores,
        )


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many cores this process may use: by its affinity, and by its container's limit, rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        allowed, period = quota.read_text().split()
        return cores if allowed == "max" else max(1, min(cores, math.ceil(int(allowed) / int(period))))
    except (OSError, ValueError):  # not Linux, or no container
        return cores
