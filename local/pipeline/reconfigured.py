"""A running platform with another configuration than the project's, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.pipeline import pools
from local.pipeline.attached import AttachedPlatform
from local.platform.home import use_dag_library

use_dag_library()

from mlplatform.config.pools import pools_of  # noqa: E402

PARSE_SECONDS = 120


@contextmanager
def reconfigured(platform: AttachedPlatform, folder: Path) -> Iterator[None]:
    """Have the platform's DAGs read another folder instead of ``config/``, until the end of the block.

    Airflow has read it when the block begins, and its pools are made.

    Raises:
        ConfigError: the configuration is refused.
        TimeoutError: Airflow does not read it.
    """
    link = platform.home.bundle / "config"
    before = link.readlink()
    try:
        _point(platform, link, folder)
        yield
    finally:
        _point(platform, link, before)


def _point(platform: AttachedPlatform, link: Path, folder: Path) -> None:
    new = link.with_name("config.new")
    new.symlink_to(folder)
    new.replace(link)
    pools.make(platform.airflow, pools_of(platform.home.bundle))
    platform.airflow.parse_again(PARSE_SECONDS)
