"""Step train: one or several trials, from prepared splits to scored models in MLflow.

Several trials share the pod's data. A family that can train them together does; otherwise they train one after the
other: the libraries use all cores and the whole GPU by themselves, so at once they would only take memory and time
from each other, and one that runs out of memory would take the others with it.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

import modelformat
from mlplatform.config.base import Scalar, TaskKind
from mlplatform.config.family import effective_params
from mlplatform.documents.digests import digest
from mlplatform.documents.results import Split, TrainResult, TrialResult
from mlplatform.documents.run import RunConfig, Trial
from mlplatform.errors import ConfigError, NonRetryableError
from mlplatform.steps import EXIT_DONE, StepContext
from mlplatform.storage import client, join, split_uri, try_read_document, write_document
from trainer import data, launch, packaging, shutdown, system_metrics, tracking
from trainer.budget import Budget, EndedTrial, gpus_held
from trainer.checkpoints import Checkpoints
from trainer.data import Dataset, plain
from trainer.families import load_family
from trainer.families.base import Fitted, ModelFamily, Task
from trainer.families.device import gpu_is_there
from trainer.metrics import score_all
from trainer.resources import threads
from trainer.session import DeviceOutOfMemory, Diverged, NoSession, Pruned, Session, Stopped
from trainer.study import Study, StudyTrial, connect, is_needed
from trainer.tracking import Input, TrialRun
from trainer.trials import CheckpointSchedule, Clock, OutOfBudget, TrialSession

log = logging.getLogger(__name__)

EXIT_STOPPED = 143
"""As the shell tells an end by SIGTERM."""

_OWN_FAILURES = (Pruned, Diverged, DeviceOutOfMemory, NonRetryableError)
"""What ends a trial and leaves the others."""

_RUN_STATUS: Mapping[str, Literal["FINISHED", "FAILED", "KILLED"]] = {
    "succeeded": "FINISHED",
    "pruned": "FINISHED",  # as it was meant to
    "failed": "FAILED",
    "skipped": "KILLED",
}


def run(context: StepContext) -> TrainResult:
    """Train the configured trials.

    A trial that fails by itself is reported as failed and the others go on. Trials that an earlier attempt brought to
    an end are not trained again.

    Args:
        context: its input is the output of step prepare.

    Raises:
        NonRetryableError: there is no trial, the prepared data is not there or cannot be trained on, or no trial's
            parameters are right.
        UnavailableError: the study's database does not answer.
        SystemExit: the process was told to stop, and another attempt goes on from the states that were saved; or it
            is one of several that train together, and not the one that has the result.
    """
    config = context.config
    if not config.trials:
        raise NonRetryableError(
            "trials: not set in the configuration; each training pod needs its own", kind="bad-config"
        )
    if config.family.name not in config.model.families:
        raise NonRetryableError(
            f"family {config.family.name}: not configured for dataset {config.model.name}", kind="bad-config"
        )
    _start_peers(config)
    with shutdown.scratch_folder() as folder:
        pod = Pod(context, folder)
        try:
            if launch.rank() > 0:
                pod.follow()
                raise SystemExit(EXIT_DONE)
            outcomes = pod.train(config.trials)
            pod.share(None)
        except Stopped as stopped:
            sys.stdout.flush()
            print(f"train: {stopped}; another attempt goes on from there", file=sys.stderr, flush=True)
            raise SystemExit(EXIT_STOPPED) from None
    refusals = [outcome.refusal for outcome in outcomes if outcome.refusal is not None]
    if len(refusals) == len(outcomes):
        raise refusals[0]
    return TrainResult(
        run_key=config.run_key,
        started_at=context.started_at,
        finished_at=datetime.now(UTC),
        trials=[outcome.result for outcome in outcomes],
    )


def _start_peers(config: RunConfig) -> None:
    """Have a training that can be shared done by a process per GPU, in as many pods as the trial has.

    Raises:
        SystemExit: as those processes ended; this one has only started them.
    """
    if not config.family.distributed:
        return
    gpus = 0
    if config.device != "cpu" and gpu_is_there():
        import torch

        gpus = torch.cuda.device_count()
    with shutdown.cooperative(reserve_seconds=0):  # the processes are told to stop, and take their time
        code = launch.relaunch(gpus, sys.argv[1:])
    if code is not None:
        raise SystemExit(code)


@dataclass(frozen=True)
class Outcome:
    """What became of a trial, and if the family or the catalogue refused it, by which words."""

    result: TrialResult
    refusal: NonRetryableError | None = None


@dataclass(frozen=True)
class PodData:
    """What all trials of a pod are trained on."""

    task: Task
    train: Dataset
    validation: Dataset
    inputs: Sequence[Input]


@dataclass(frozen=True)
class Attempt:
    """One trial while this process works on it."""

    trial: Trial
    params: Mapping[str, Scalar]
    refusal: NonRetryableError | None
    folder: Path
    run: TrialRun
    record: StudyTrial | None
    checkpoints: Checkpoints
    session: TrialSession


@dataclass
class Pod:
    """A training pod at work on its trials."""

    context: StepContext
    folder: Path
    clock: Clock = field(default_factory=lambda: Clock(gpus_held()))

    @property
    def config(self) -> RunConfig:
        """The run's configuration."""
        return self.context.config

    @cached_property
    def budget(self) -> Budget:
        """What the search may cost."""
        return Budget(self.config.search.maximum_gpu_hours, self.context.output)

    @cached_property
    def study(self) -> Study | None:
        """The study of the run, where it needs one."""
        return connect(self.config) if is_needed(self.config) else None

    @cached_property
    def family(self) -> ModelFamily:
        """The family's code."""
        return load_family(self.config.family)

    @cached_property
    def data(self) -> PodData:
        """The prepared data, read once."""
        config, model = self.config, self.config.model
        prepared = data.read_prepared(self.context.input)
        profile = data.read_profile(prepared)
        kinds = {name: feature.type for name, feature in model.features.items()}
        train, validation = (
            data.load(data.fetch(split, self.folder), kinds, model.target, profile.classes)
            for split in (prepared.train, prepared.validation)
        )
        task = Task(
            kind=model.task,
            features=kinds,
            target=model.target,
            classes=profile.classes,
            metric=model.metric,
            seed=config.seed,
            threads=threads(),
            device=config.device,
            profile=profile,
            metadata={"dataset": model.name, "run_key": config.run_key},
        )
        types = {name: "string" if kind == "category" else "double" for name, kind in kinds.items()}
        splits: Mapping[Literal["training", "validation"], Split]
        splits = {"training": prepared.train, "validation": prepared.validation}
        inputs = [
            Input(f"{model.name}-{context}", content_id(split), split.uris, types, split.rows, context)
            for context, split in splits.items()
        ]
        return PodData(task, train, validation, inputs)

    def train(self, trials: Sequence[Trial]) -> list[Outcome]:
        """Bring trials to their end, in the order they are given.

        Raises:
            Stopped: the process was told to stop; what can be saved is saved.
        """
        ended: dict[int, Outcome] = {}
        for trial in trials:
            earlier = try_read_document(self._document(trial), EndedTrial)
            if earlier is not None:
                ended[trial.index] = self._take_over(trial, earlier.result)
        left = [trial for trial in trials if trial.index not in ended]
        if len(left) > 1 and hasattr(self.family, "fit_together"):
            try:
                ended.update(zip((trial.index for trial in left), self._train_group(left), strict=True))
                left = []
            except DeviceOutOfMemory as error:
                log.warning("%s; the trials are trained one after the other", error)
        for trial in left:
            (ended[trial.index],) = self._train_group([trial])
        return [ended[trial.index] for trial in trials]

    def _take_over(self, trial: Trial, earlier: TrialResult) -> Outcome:
        """Count a trial that an earlier attempt brought to its end, which may have come no further than its result."""
        log.info("trial %d: %s already, in an earlier attempt", trial.index, earlier.status)
        self.clock.finished_gpu_seconds += earlier.gpu_seconds
        if self.study is not None:
            record = self.study.trial(trial.index, trial.params)
            record.finish(earlier.status, earlier.metrics.get(self.config.model.metric))
        Checkpoints(self._states(trial), "", self.folder).remove()
        return Outcome(earlier)

    def _train_group(self, trials: Sequence[Trial]) -> list[Outcome]:
        """Train trials together."""
        if shutdown.requested():
            raise Stopped(f"trial {trials[0].index} was not begun")
        if reason := self.budget.exceeded(self.clock.gpu_seconds, now=True):
            return [self._skipped(trial, reason) for trial in trials]
        schedule = CheckpointSchedule(self.config.checkpoint_seconds)
        with ExitStack() as stack:
            attempts = [self._begin(trial, schedule, stack) for trial in trials]
            able = [attempt for attempt in attempts if attempt.refusal is None]
            fitted: dict[int, Fitted | Exception] = {}
            seconds = 0.0
            if able:
                for attempt in able:
                    attempt.run.log_inputs(self.data.inputs)
                results, seconds = self._fit(able)
                fitted = {attempt.trial.index: result for attempt, result in zip(able, results, strict=True)}
            return [
                self._end(attempt, attempt.refusal or fitted[attempt.trial.index], seconds, len(able))
                for attempt in attempts
            ]

    def _begin(self, trial: Trial, schedule: CheckpointSchedule, stack: ExitStack) -> Attempt:
        config, metric = self.config, self.config.model.metric
        record = None if self.study is None else self.study.trial(trial.index, trial.params)
        params: Mapping[str, Scalar] = trial.params if record is None else record.params
        refusal = None
        try:
            params = effective_params(f"trials.{trial.index}.params", config.family, params)
        except ConfigError as error:
            refusal = NonRetryableError(str(error), kind="bad-config")
        own = {"run_key": config.run_key, "trial": str(trial.index)}
        own |= {"dataset": config.model.name, "owner": config.model.owner, "family": config.family.name}
        tags, name = {**config.lineage, **own}, f"{config.run_key}-{trial.index:03d}"
        run = stack.enter_context(tracking.trial_run(config, name, tags, {} if refusal else params))
        run.log_params({"family": config.family.name, "seed": config.seed, **params})
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder)))
        fingerprint = digest(config.run_key, config.seed, config.family.name, params)
        checkpoints = Checkpoints(self._states(trial), fingerprint, folder)
        session = TrialSession(
            label=f"trial {trial.index}",
            metric=metric,
            folder=folder,
            run=run,
            checkpoints=checkpoints,
            record=record,
            budget=self.budget,
            clock=self.clock,
            schedule=schedule,
        )
        return Attempt(trial, params, refusal, folder, run, record, checkpoints, session)

    def share(self, params: Sequence[Mapping[str, Scalar]] | None) -> Sequence[Mapping[str, Scalar]] | None:
        """Agree with the processes that train together on what is trained next: what the first one says.

        Returns:
            Parameters of the trials, None where nothing is left to do.
        """
        if launch.world_size() == 1:
            return params
        import torch

        from trainer.families.pytorch import peers  # the one family that trains in several processes

        cuda = self.config.device != "cpu" and torch.cuda.is_available()
        return peers.join(torch.device("cuda" if cuda else "cpu")).share(params)

    def follow(self) -> None:
        """Train with the process that leads, which alone reports, saves and decides.

        Raises:
            Stopped: as it has decided.
        """
        while (params := self.share(None)) is not None:
            with shutdown.cooperative():
                self._compute(params, [NoSession()] * len(params))

    def _compute(
        self, params: Sequence[Mapping[str, Scalar]], sessions: Sequence[Session]
    ) -> Sequence[Fitted | Exception]:
        """Return each trial's model, or what it failed by itself of."""
        what = self.data
        try:
            if len(params) == 1:
                return [self.family.fit(what.task, what.train, what.validation, params[0], sessions[0])]
            together = self.family.fit_together  # type: ignore[attr-defined]  # see `train`
            results: Sequence[Fitted | Exception] = together(what.task, what.train, what.validation, params, sessions)
        except DeviceOutOfMemory as error:
            if len(params) > 1 and launch.rank() == 0:
                raise
            return [error] * len(params)
        except _OWN_FAILURES as error:
            return [error] * len(params)
        for result in results:
            if isinstance(result, Exception) and not isinstance(result, _OWN_FAILURES):
                raise result
        return results

    def _fit(self, attempts: Sequence[Attempt]) -> tuple[Sequence[Fitted | Exception], float]:
        """Return each trial's model, or what it failed by itself of; and the time it took, in seconds."""
        params = [attempt.params for attempt in attempts]
        with system_metrics.sampling([attempt.run for attempt in attempts]), shutdown.cooperative():
            self.share(params)
            self.clock.start()
            try:
                results = self._compute(params, [attempt.session for attempt in attempts])
            finally:
                seconds = self.clock.stop()
        return results, seconds

    def _end(self, attempt: Attempt, outcome: Fitted | Exception, seconds: float, together: int) -> Outcome:
        """Keep what became of a trial: model and metrics in MLflow, then its result, then the study's record."""
        files = attempt.folder / "files"
        files.mkdir()
        status, reason, metrics, model_digest = _status(outcome), None, dict[str, float | None](), None
        if isinstance(outcome, Exception):
            reason = str(outcome) or type(outcome).__name__
        else:
            metrics, model_digest = self._log_model(attempt, outcome, seconds, files)
        if attempt.session.history:
            _write_json(files / "history.json", [{"step": n.step, **n.metrics} for n in attempt.session.history])
        attempt.run.log_files(files)
        tags = {tracking.OUTCOME: status, **({tracking.REASON: reason} if reason else {})}
        attempt.run.end(_RUN_STATUS[status], tags)
        log.info("trial %d: %s in %.1f s: %s", attempt.trial.index, status, seconds, reason or _shown(metrics))
        result = TrialResult(
            trial=attempt.trial.index,
            status=status,
            reason=reason,
            family=self.config.family.name,
            params=dict(attempt.params),
            metrics=metrics,
            run_id=attempt.run.run_id,
            model_uri=None if model_digest is None else attempt.run.model_uri,
            model_digest=model_digest,
            fit_seconds=seconds,
            gpu_seconds=0.0 if attempt.refusal else seconds * self.clock.gpus / max(1, together),
        )
        if not isinstance(
            outcome, NonRetryableError
        ):  # what was refused is cheap to refuse again, and then says so again
            write_document(self._document(attempt.trial), EndedTrial(result=result))
        if attempt.record is not None:
            attempt.record.finish(status, metrics.get(self.config.model.metric))
        attempt.checkpoints.remove()
        return Outcome(result, outcome if isinstance(outcome, NonRetryableError) else None)

    def _log_model(
        self, attempt: Attempt, fitted: Fitted, seconds: float, files: Path
    ) -> tuple[dict[str, float | None], str]:
        """Save and score a model and put it among the run's files. Return its metrics and its digest."""
        what, run = self.data, attempt.run
        saved = attempt.folder / "saved"
        metrics, model_digest = save_and_score(fitted, saved, what.task.kind, what.validation)
        packaging.package(
            saved,
            files / tracking.MODEL_PATH,
            run_id=run.run_id,
            created_at=self.context.started_at,
            example=example(what.train),
            metadata={**self.config.lineage, **what.task.metadata, "trial": attempt.trial.index}
            | {"model_digest": model_digest},
        )
        if fitted.importance:
            _write_json(files / "importance.json", dict(fitted.importance))
        facts = {**fitted.facts, "fit_seconds": seconds, "train_rows": float(what.train.rows)}
        run.metrics.add(0, {**{name: value for name, value in metrics.items() if value is not None}, **facts})
        return metrics, model_digest

    def _skipped(self, trial: Trial, reason: str) -> Outcome:
        log.warning("trial %d is skipped: %s", trial.index, reason)
        family, params = self.config.family.name, trial.params
        return Outcome(TrialResult(trial=trial.index, status="skipped", reason=reason, family=family, params=params))

    def _document(self, trial: Trial) -> str:
        return join(self.context.output, "trials", f"{trial.index:03d}.json")

    def _states(self, trial: Trial) -> str:
        return join(self.context.output, "checkpoints", f"{trial.index:03d}")


def save_and_score(
    fitted: Fitted, directory: Path, kind: TaskKind, validation: Dataset
) -> tuple[dict[str, float | None], str]:
    """Save a model, and score what was saved, by the code that serves it. Return metrics and digest."""
    directory.mkdir()
    fitted.save(directory)
    predictor = modelformat.Predictor.load(directory, threads=threads())
    return score_all(kind, validation.target, predictor.predict(validation.columns)), predictor.digest


def example(dataset: Dataset) -> dict[str, Scalar | None]:
    """Return the first row as plain values."""
    return {name: plain(values[0]) for name, values in dataset.columns.items()}


def content_id(split: Split) -> str:
    """Return the identity of a split's content (20 hex digits), as S3 knows it without reading it."""
    heads = []
    for uri in split.uris:
        bucket, key = split_uri(uri)
        head = client().head_object(Bucket=bucket, Key=key)
        heads.append((head["ETag"], head["ContentLength"]))
    return digest(heads)


def _status(outcome: Fitted | Exception) -> Literal["succeeded", "pruned", "failed", "skipped"]:
    if not isinstance(outcome, Exception):
        return "succeeded"
    if isinstance(outcome, OutOfBudget):
        return "skipped"
    return "pruned" if isinstance(outcome, Pruned) else "failed"


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def _shown(metrics: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {'-' if value is None else format(value, '.4f')}" for name, value in metrics.items())
