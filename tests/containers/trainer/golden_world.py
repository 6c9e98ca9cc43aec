"""The platform as a set has left it, for the steps as they are now: S3 and MLflow, filled with what was there."""

from __future__ import annotations

from typing import Any

from mlplatform import steps, storage
from mlplatform.documents.evaluation import EvaluateResult
from mlplatform.documents.monitoring import MonitorResult
from mlplatform.documents.results import StepFailure
from mlplatform.documents.run import RunConfig
from mlplatform.promotion import registry
from tests.golden.sets import GoldenSet
from trainer import tracking
from trainer.packaging import DATA
from trainer.tracking import MODEL_PATH
from trainer.validation import drift
from trainer.validation.document import ValidationDocument

__all__ = ["EvaluateResult", "MonitorResult", "RunConfig", "ValidationDocument", "World", "drift", "storage"]


class World:
    """The registered model of a set's dataset, and all objects of the set."""

    def __init__(self, golden: GoldenSet, tracking_uri: str) -> None:
        self.golden = golden
        self.tracking_uri = tracking_uri
        self.model = golden.registered()
        self.client = tracking.connect(tracking_uri)
        golden.put(storage.client())
        self._register()

    def _register(self) -> None:
        """Make the versions anew, in their order: MLflow gives them their numbers, and the runs other ids."""
        experiment = self.client.create_experiment(f"{self.model['name']}-{self.golden.folder.name}")
        self.client.create_registered_model(self.model["name"])
        models = self.golden.models()
        for version in self.model["versions"]:
            run = self.client.create_run(experiment)
            saved = models[version["run_id"]] / "model"
            self.client.log_artifacts(run.info.run_id, str(saved), f"{MODEL_PATH}/{DATA}")
            source = f"{run.info.artifact_uri}/{MODEL_PATH}"
            made = self.client.create_model_version(
                self.model["name"], source, run.info.run_id, tags=dict(version["tags"])
            )
            assert str(made.version) == version["version"]

    def champion(self, version: str | None) -> None:
        """Let a version be the champion."""
        if version is None:
            self.client.delete_registered_model_alias(self.model["name"], registry.CHAMPION)
        else:
            self.client.set_registered_model_alias(self.model["name"], registry.CHAMPION, version)

    def config(self, uri: str) -> RunConfig:
        """Return a step's configuration; only the servers are others now."""
        config = storage.read_document(uri, RunConfig)
        return config.model_copy(update={"tracking_uri": self.tracking_uri})

    def run(self, step: str, config: RunConfig, source: str) -> Any:
        """Run a step that must succeed, with an output of its own, and return its result."""
        output = f"s3://{self.golden.buckets['data']}/again/{step}/{config.run_key}"
        storage.write_document(f"{output}/config.json", config)
        where = ["--config", f"{output}/config.json", "--input", source, "--output", output]
        code = steps.main("trainer", [step, *where])
        assert code == 0, storage.try_read_document(f"{output}/error.json", StepFailure)
        return storage.read_document(f"{output}/result.json", steps.STEPS[step].result)

    def remove(self) -> None:
        """Make room for the next set, whose model may have the same name."""
        self.client.delete_registered_model(self.model["name"])
        self.golden.remove(storage.client())
