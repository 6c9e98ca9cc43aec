"""Plays runs of the pipeline: the Python tasks one after another, pods by writing their results."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mlplatform.config.environment import Settings
from mlplatform.documents.decisions import Decision, RecordedAnswer
from mlplatform.documents.paths import RunPaths
from mlplatform.documents.results import TrainResult, ValidateResult
from mlplatform.documents.run import RunConfig
from mlplatform.storage import read_document, write_document
from mlplatform.training import approvals, inputs, registration
from mlplatform.training.inputs import ResolvedInputs
from mlplatform.training.trials import generate_trials, select_best
from tests.unit.mlplatform.evaluations import evaluation

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PARAMS: dict[str, Any] = {
    "dataset": "parcels",
    "family": "xgboost",
    "trials": 3,
    "search": "random",
    "device": "auto",
    "seed": 0,
    "wait_for_new_data": True,
    "minimum_quality": None,
    "minimum_improvement": None,
}


class Story:
    """Plays runs of the pipeline as the DAG would."""

    def __init__(self, settings: Settings, s3: Any, registry: Any, trained: Callable[..., Any]) -> None:
        self.settings, self.s3, self.registry, self.trained = settings, s3, registry, trained
        self.live: set[str] = set()

    def land(self, *names: str, content: bytes = b"x") -> None:
        self.s3.put_object(Bucket="landing", Key="parcels/depots/all.parquet", Body=b"depots")
        for name in names:
            self.s3.put_object(Bucket="landing", Key=f"parcels/parcels/{name}.parquet", Body=content)

    def resolve(self, owner: str, **params: Any) -> ResolvedInputs:
        return inputs.resolve_inputs(self.settings, {**PARAMS, **params}, owner, lambda run: run in self.live)

    def validate(self, paths: RunPaths) -> str:
        result = ValidateResult(
            run_key="key",
            started_at=NOW,
            finished_at=NOW,
            files=[],
            report_uri="s3://data/validation.html",
            profile_uri="s3://data/profile.json",
        )
        write_document(paths.step("validate", "result.json"), result)
        return inputs.settle_landing(self.settings, paths.prefix)

    def train(self, paths: RunPaths, *values: float | None) -> dict[str, Any]:
        """Train a trial per value in as many pods as there are to be; a pod with a None in it has no result."""
        arguments = generate_trials(self.settings, paths.prefix, len(values))
        for _, _, config, _, _, _, output in arguments:
            trials = read_document(config, RunConfig).trials
            done = [self.trained(t.index, roc_auc=value) for t in trials if (value := values[t.index]) is not None]
            if len(done) == len(trials):
                result = TrainResult(run_key="key", started_at=NOW, finished_at=NOW, trials=done)
                write_document(f"{output}/result.json", result)
        return select_best(self.settings, paths.prefix, len(arguments))

    def evaluate(self, paths: RunPaths, value: float | None, champion: tuple[str, float] | None = None) -> Decision:
        registered = registration.register(self.settings, paths.prefix)
        run_config = read_document(paths.step("evaluate", "config.json"), RunConfig)
        assert run_config.candidate is not None
        assert run_config.candidate.version == registered["version"]
        result = evaluation(
            value,
            *([champion[1]] if champion else []),
            champion_version=champion[0] if champion else "",
            candidate_version=registered["version"],
            model_digest=run_config.candidate.model_digest,
        )
        write_document(paths.step("evaluate", "result.json"), result)
        return registration.decide(self.settings, paths.prefix)

    def approve(self, paths: RunPaths, owner: str = "a") -> RecordedAnswer:
        given = approvals.approve_automatically(self.settings, paths.prefix)
        return approvals.record_approval(
            self.settings, paths.prefix, given.model_dump(mode="json"), f"train__parcels/{owner}"
        )

    def conclude(self, paths: RunPaths, owner: str, held: RecordedAnswer | None = None) -> Any:
        answer = held.answer.model_dump(mode="json") if held else None
        return approvals.conclude(self.settings, paths.prefix, owner, None, answer)

    def promoted(self, owner: str) -> RunPaths:
        """A whole run that ends with a live model."""
        self.land("jan")
        paths = self.resolve(owner).paths
        self.validate(paths)
        self.train(paths, 0.7, 0.8, 0.75)
        decision = self.evaluate(paths, 0.8)
        self.conclude(paths, owner, self.approve(paths, owner))
        self.registry.aliases["champion"] = decision.candidate_version  # as a deployment does
        return paths
