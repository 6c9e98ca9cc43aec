"""The tasks of the group ``training``: the trials of a run, and which of them is the best one."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from mlplatform import storage
from mlplatform.config import loading
from mlplatform.config.environment import Settings
from mlplatform.documents.paths import paths_of_run
from mlplatform.documents.results import Selection, StepFailure, TrainResult, TrialResult
from mlplatform.documents.run import RunConfig, Trial
from mlplatform.errors import NonRetryableError
from mlplatform.steps import ERROR, RESULT
from mlplatform.training import search, selection, tracking

log = logging.getLogger(__name__)
_PARALLEL = 16


def generate_trials(settings: Settings, prefix: str, count: int) -> list[list[str]]:
    """Choose the trials, write the configurations of their pods and return these pods' arguments.

    The MLflow run that the trials' runs are nested in is made here, or found again.

    Raises:
        ConfigError: the search space is not searched with so many trials.
    """
    paths = paths_of_run(prefix)
    config = storage.read_document(paths.config, RunConfig)
    method, space = config.search.method, loading.search_space(config.model, config.family)
    fixed = config.model.families[config.family.name].params
    source = loading.search_source(config.model, config.family)
    trials = search.generate_trials(fixed, space, method, count, config.seed, source)
    if len(trials) < count:
        log.warning("%d trials instead of %d: the search space has no more distinct points", len(trials), count)
    parent = tracking.open_search(
        config.tracking_uri,
        config.model.name,
        config.run_key,
        tags={
            **config.lineage,
            "dataset": config.model.name,
            "owner": config.model.owner,
            "task": config.model.task,
            "run_prefix": prefix,
        },
        params={
            "family": config.family.name,
            "search": method,
            "trials": str(len(trials)),
            "metric": config.model.metric,
            "seed": str(config.seed),
            "device": config.device,
        },
    )

    def write(pod: tuple[int, list[Trial]]) -> list[str]:
        index, pack = pod
        uri = paths.training_pod(index, "config.json")
        storage.write_document(uri, config.model_copy(update={"trials": pack, "parent_run_id": parent}))
        return ["train", "--config", uri, "--input", paths.step("prepare"), "--output", paths.training_pod(index)]

    pods = enumerate(search.packs(trials, config.search.trials_per_pod))
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return list(pool.map(write, pods))


def select_best(settings: Settings, prefix: str, count: int) -> dict[str, Any]:
    """Read all trials' results, keep the table, close the search's MLflow run, and return the best one's facts.

    Args:
        settings: of the environment.
        prefix: of the run.
        count: how many training pods there were.

    Raises:
        NonRetryableError: too few trials succeeded, or none was ever made.
    """
    paths = paths_of_run(prefix)
    if not count:
        raise NonRetryableError("no trial was generated: an earlier step failed, see its log")
    config = storage.read_document(paths.config, RunConfig)

    def read(index: int) -> list[TrialResult]:
        planned = storage.read_document(paths.training_pod(index, "config.json"), RunConfig).trials
        result = storage.try_read_document(paths.training_pod(index, RESULT), TrainResult)
        failure = None
        if result is None:
            failure = storage.try_read_document(paths.training_pod(index, ERROR), StepFailure)
        return selection.outcomes(config.family.name, planned, result, failure.message if failure else None)

    with ThreadPoolExecutor(_PARALLEL) as pool:
        trials = [trial for pod in pool.map(read, range(count)) for trial in pod]
    metric = config.model.metric
    best = selection.select_best(trials, metric, settings.training.minimum_successful_share)
    hours, summary = selection.gpu_hours(trials), selection.summary(trials, metric)
    selected = Selection(metric=metric, best=best.trial, summary=summary, gpu_hours=hours, trials=trials)
    storage.write_document(paths.selection, selected)
    tracking.close_search(
        config.tracking_uri,
        config.model.name,
        config.run_key,
        "FINISHED",
        metrics={**{name: value for name, value in best.metrics.items() if value is not None}, "gpu_hours": hours},
        tags={"best_trial": str(best.trial), "best_run_id": cast("str", best.run_id), "trials": summary},
    )
    log.info("%s. Trial %d is best: %s %s", summary, best.trial, metric, best.metrics[metric])
    return {
        "trial": best.trial,
        "metric": metric,
        "value": best.metrics[metric],
        "run_id": best.run_id,
        "summary": summary,
        "gpu_hours": hours,
    }
