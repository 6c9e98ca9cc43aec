"""The Airflow pools that limit how many pods there are at once.

A limit on a task's instances does not: while a pod runs its task is deferred, and Airflow (as of 3.2) counts only
queued and running ones (https://github.com/apache/airflow/issues/61700). A pool can count deferred ones too. A task has
one pool and pools have no shares, so each dataset has its own for its training; the total is the namespace's quota.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlplatform.config.environment import Settings
from mlplatform.config.loading import BUNDLE, Dataset, load_dataset, load_settings, model_names
from mlplatform.config.names import DEPLOYMENT_POOL, training_pool
from mlplatform.errors import ConfigError


@dataclass(frozen=True)
class Pool:
    """A pool as Airflow's API has it."""

    name: str
    slots: int
    description: str
    include_deferred: bool


def training_slots(settings: Settings) -> int:
    """Return how many slots a training task takes: the GPUs of its pods, one for each pod without."""
    return max(settings.steps["train"].gpus, 1) * settings.training.pods_per_trial


def pools(settings: Settings, datasets: Iterable[Dataset]) -> list[Pool]:
    """Return the pools that the DAGs need; a task of a pool that is not there never starts.

    Args:
        settings: of the environment.
        datasets: that have DAGs in it.
    """
    return [
        # Its deployments wait for SageMaker, deferred; none of them may hold up a rollback.
        Pool(DEPLOYMENT_POOL, settings.orchestration.deployment_slots, "Deployments and rollbacks", False),
        *(
            Pool(
                training_pool(one.name),
                one.settings.training.parallel_pods * training_slots(one.settings),
                f"GPUs, or pods, that train {one.name} at once",
                True,
            )
            for one in datasets
        ),
    ]


def pools_of(bundle: Path = BUNDLE) -> list[Pool]:
    """Return the pools that the DAGs of a bundle need; a dataset whose file is refused has no DAGs.

    Raises:
        ConfigError: the settings are refused.
    """
    return pools(load_settings(bundle), _enabled(bundle))


def _enabled(bundle: Path) -> Iterator[Dataset]:
    for name in model_names(bundle):
        with suppress(ConfigError):
            if (dataset := load_dataset(name, bundle)).enabled:
                yield dataset
