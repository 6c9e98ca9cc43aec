"""Step evaluate: candidate and champion, scored by one process on the same held-out rows."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.config.base import LOWER_IS_BETTER
from mlplatform.config.dataset import ModelConfig
from mlplatform.documents.evaluation import EvaluateResult, Improvement, Score
from mlplatform.documents.results import PrepareResult
from mlplatform.documents.run import RunConfig
from mlplatform.errors import NonRetryableError
from mlplatform.promotion.registry import CHAMPION, Version, get_version, get_version_with_alias
from mlplatform.steps import REPORT as REPORT
from mlplatform.steps import StepContext
from mlplatform.storage import join, write_bytes, write_document
from modelformat import ModelFormatError, Predictor
from trainer import data, shutdown, tracking
from trainer.data import Dataset, Kind
from trainer.evaluation import artifacts, latency
from trainer.evaluation.bootstrap import intervals
from trainer.evaluation.calibration import calibration_error
from trainer.evaluation.examples import pick_examples
from trainer.evaluation.slices import slice_scores
from trainer.metrics import score_all
from trainer.resources import threads

log = logging.getLogger(__name__)


def run(context: StepContext) -> EvaluateResult:
    """Score the candidate, and the champion if there is one, on the test split, and report on it.

    A champion that is the candidate itself (an evaluation repeated after promotion) is scored once and
    reported as both. A champion that cannot read the data any more is refused, not passed over: a
    replacement without a comparison is for people to decide.

    Args:
        context: its input is the output of step prepare.

    Raises:
        NonRetryableError: no candidate is configured or found, its files are not those registered, or the champion
            does not fit the data or the task.
    """
    config = context.config
    if config.candidate is None:
        raise NonRetryableError(
            "candidate: not set in the configuration; register a model version first", kind="bad-config"
        )
    prepared = data.read_prepared(context.input)
    client = tracking.connect(config.tracking_uri)
    name = config.model.registered_model
    contender = get_version(config.tracking_uri, name, config.candidate.version)
    champion = get_version_with_alias(config.tracking_uri, name, CHAMPION)
    with shutdown.scratch_folder() as folder:
        test = data.fetch(prepared.test, folder)
        candidate = _judge_candidate(config, contender, test, folder / "candidate")
        theirs = None
        if champion is not None and champion.version == contender.version:
            theirs = candidate
        elif champion is not None:
            theirs = _judge_champion(config, champion, candidate, test, folder / "champion")
        content = _content_digest(test)
        result = _result(context, prepared, candidate, theirs, content)
        log.info("candidate %s, champion %s", result.candidate.model_dump(), theirs.score.metrics if theirs else "none")
        examples = pick_examples(
            test,
            config.model.references,
            candidate.predictor.encoder.names,
            candidate.predictor.manifest.classes if config.model.task == "multiclass" else None,
            candidate.dataset,
            candidate.predictions,
            config.seed,
        )
        write_document(result.examples_uri, examples)
        page = folder / REPORT
        page.write_text(_report(client, config, prepared, result, candidate, theirs, content, folder), "utf-8")
        write_bytes(result.report_uri, page.read_bytes(), content_type="text/html; charset=utf-8")
        artifacts.log_report(client, contender.run_id, page)
    return result.model_copy(update={"finished_at": datetime.now(UTC)})


@dataclass(frozen=True)
class Judged:
    """A model version, what it answered on the test split, and how good that is."""

    predictor: Predictor
    dataset: Dataset
    predictions: NDArray[np.float64]
    score: Score


def _judge_candidate(config: RunConfig, version: Version, test: Sequence[Path], folder: Path) -> Judged:
    model, candidate = config.model, config.candidate
    assert candidate is not None
    predictor = _load(config.tracking_uri, version, folder)
    if predictor.digest != candidate.model_digest:
        raise NonRetryableError(
            f"{version.name} version {version.version}: its files have digest {predictor.digest}, registered was "
            f"{candidate.model_digest}; it was changed after training, train again",
            kind="bad-config",
        )
    if predictor.manifest.task != model.task:
        raise NonRetryableError(
            f"{version.name} version {version.version} was trained for a {predictor.manifest.task} task, configured is "
            f"{model.task}; train again",
            kind="bad-config",
        )
    # What the evaluation is broken down by is read too, should the model not use it.
    kinds: dict[str, Kind] = {**dict.fromkeys(model.slices, "category"), **_kinds(predictor)}
    return _judge(version, predictor, data.load(test, kinds, model.target, predictor.manifest.classes), folder)


def _judge_champion(
    config: RunConfig, version: Version, candidate: Judged, test: Sequence[Path], folder: Path
) -> Judged:
    """Score the champion on the same files, with the columns it was trained on."""
    predictor = _load(config.tracking_uri, version, folder)
    who = f"champion {version.name} version {version.version}"
    _check_same_task(who, predictor, candidate.predictor, config.model)
    try:
        dataset = data.load(test, _kinds(predictor), config.model.target, predictor.manifest.classes)
    except NonRetryableError as error:
        raise NonRetryableError(
            f"{who} does not fit the data: {error}. Keep the column in the query of the configuration (it need not be "
            "a feature), or remove alias champion to start afresh",
            kind="bad-config",
        ) from None
    return _judge(version, predictor, dataset, folder)


def _check_same_task(who: str, champion: Predictor, candidate: Predictor, model: ModelConfig) -> None:
    """Refuse a comparison of answers to different questions."""
    theirs, ours = champion.manifest, candidate.manifest
    if theirs.target != model.target:
        raise NonRetryableError(
            f"{who} predicts {theirs.target!r}, not {model.target!r}; register the new task under another name",
            kind="bad-config",
        )
    if theirs.task != model.task:
        raise NonRetryableError(
            f"{who} was trained for a {theirs.task} task, not a {model.task} one; register the new task under another "
            "name",
            kind="bad-config",
        )
    if theirs.classes != ours.classes:
        gone = sorted(set(theirs.classes or []) - set(ours.classes or []))
        new = sorted(set(ours.classes or []) - set(theirs.classes or []))
        raise NonRetryableError(
            f"{who} tells other classes apart than the candidate: only the champion has {_names(gone)}, only the "
            f"candidate {_names(new)}. Their probabilities cannot be compared: train on data that has the same "
            "classes, register the new task under another name, or remove alias champion to start afresh",
            kind="bad-config",
        )


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown or "none"


def _judge(version: Version, predictor: Predictor, dataset: Dataset, folder: Path) -> Judged:
    task = predictor.manifest.task
    predictions = predictor.predict(dataset.columns)
    score = Score(
        model_version=version.version,
        run_id=version.run_id,
        metrics=score_all(task, dataset.target, predictions),
        calibration_error=calibration_error(dataset.target, predictions) if task == "binary" else None,
        latency=latency.measure(predictor, dataset.columns),
        model_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
    )
    return Judged(predictor, dataset, predictions, score)


def _result(
    context: StepContext, prepared: PrepareResult, candidate: Judged, champion: Judged | None, content: str
) -> EvaluateResult:
    """Compare both, and put everything that was found into the step's result."""
    config = context.config
    model, target = config.model, candidate.dataset.target
    theirs = None if champion is None else champion.predictions
    level = config.policy.comparison.level
    sure = intervals(model.task, model.metric, target, candidate.predictions, theirs, seed=config.seed, level=level)
    own = candidate.score.model_copy(update={"interval": sure.candidate})
    other = None if champion is None else champion.score.model_copy(update={"interval": sure.champion})
    improvement = None
    if other is not None:
        ours, before = own.metrics[model.metric], other.metrics[model.metric]
        better = None if ours is None or before is None else ours - before
        if better is not None and model.metric in LOWER_IS_BETTER:
            better = -better
        improvement = Improvement(metric=model.metric, value=better, interval=sure.improvement)
    columns = {name: candidate.dataset.columns[name] for name in model.slices}
    slices = slice_scores(model.task, model.metric, target, candidate.predictions, theirs, columns, seed=config.seed)
    assert config.candidate is not None
    result = EvaluateResult(
        run_key=config.run_key,
        started_at=context.started_at,
        finished_at=datetime.now(UTC),
        candidate=own,
        champion=other,
        rows=candidate.dataset.rows,
        improvement=improvement,
        slices=slices,
        test_uris=prepared.test.uris,
        test_digest=content,
        evaluation_digest="",
        examples_uri=join(context.output, "examples.json"),
        report_uri=join(context.output, REPORT),
    )
    return result.with_digest(model.registered_model, config.candidate.model_digest)


def _report(
    client: Any,
    config: RunConfig,
    prepared: PrepareResult,
    result: EvaluateResult,
    candidate: Judged,
    champion: Judged | None,
    content: str,
    folder: Path,
) -> str:
    from trainer.reports.evaluation.inputs import Evaluation  # brings Matplotlib
    from trainer.reports.evaluation.page import evaluation_report

    def left(score: Score | None, name: str) -> Any:
        if score is None:
            return None
        return artifacts.read_json(client, score.run_id, name, folder / "artifacts" / score.model_version)

    other = None if champion is candidate else result.champion
    return evaluation_report(
        Evaluation(
            config=config,
            prepared=prepared,
            result=result,
            target=candidate.dataset.target,
            candidate=candidate.predictions,
            champion=None if champion is None or other is None else champion.predictions,
            classes=candidate.predictor.manifest.classes,
            candidate_family=candidate.predictor.manifest.family,
            champion_family=None if champion is None else champion.predictor.manifest.family,
            importance=left(result.candidate, "importance.json"),
            champion_importance=left(other, "importance.json"),
            history=left(result.candidate, "history.json"),
            data_digest=content,
        )
    )


def _load(tracking_uri: str, version: Version, folder: Path) -> Predictor:
    try:
        return Predictor.load(tracking.download_model(tracking_uri, version, folder), threads=threads())
    except ModelFormatError as error:
        raise NonRetryableError(f"{version.name} version {version.version}: {error}", kind="bad-config") from None


def _kinds(predictor: Predictor) -> dict[str, Kind]:
    return {feature.name: feature.kind for feature in predictor.manifest.features}


def _content_digest(paths: Sequence[Path]) -> str:
    """Identity of the test rows: the digests of their files, in order."""
    each = []
    for path in paths:
        with path.open("rb") as file:
            each.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashlib.sha256("\n".join(each).encode()).hexdigest()
