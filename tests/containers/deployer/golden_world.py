"""The platform as a set has left it, for the deployer as it is now: the fakes, filled with what was there."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes import S3, FakeSageMaker, Mlflow

from deployer import rollout as rollout_module
from deployer.deploy import run
from deployer.package import find_model, pack
from deployer.plan import make_plan
from deployer.rollout import Intent
from deployer.verify import differences
from mlplatform import storage
from mlplatform.documents.deployment import DeployResult
from mlplatform.documents.results import StepFailure
from mlplatform.documents.run import RunConfig
from mlplatform.promotion import registry
from mlplatform.steps import run_step
from tests.golden.sets import GoldenSet


class World:
    """The dataset's registry and endpoint, as a set has them at its end."""

    def __init__(self, golden: GoldenSet, monkeypatch: pytest.MonkeyPatch) -> None:
        self.golden = golden
        self.s3, self.mlflow, self.sagemaker = S3(), Mlflow(), FakeSageMaker()
        for name, path in golden.objects():
            self.s3.objects[storage.split_uri(golden.uri(name))] = (path.read_bytes(), '"0"')
        self.model = golden.registered()
        self.versions = {version["version"]: version for version in self.model["versions"]}
        self.mlflow.aliases = dict(self.model["aliases"])
        self.mlflow.tags = {number: dict(version["tags"]) for number, version in self.versions.items()}
        monkeypatch.setattr(storage, "client", lambda: self.s3)
        monkeypatch.setattr("deployer.deploy.SageMaker", lambda region: self.sagemaker)
        monkeypatch.setattr(registry, "client", lambda uri: self.mlflow)
        monkeypatch.setattr(registry, "download", self._download)
        monkeypatch.setattr(rollout_module.time, "sleep", lambda _: None)
        self._fill_sagemaker()

    def _fill_sagemaker(self) -> None:
        known = self.golden.read("sagemaker.json")
        fake = self.sagemaker
        fake.models_made, fake.configs_made = known["models"], known["configurations"]
        made = [*fake.models_made.values(), *fake.configs_made.values()]
        fake.created = {
            one.get("ModelName") or one["EndpointConfigName"]: datetime.fromisoformat(one["CreationTime"]).astimezone(
                UTC
            )
            for one in made
        }
        fake.state = fake._runs(known["endpoints"][self.golden.dataset]["EndpointConfigName"], {})
        for version in self.versions.values():
            examples = self.s3.objects[storage.split_uri(f"{version['tags']['run_prefix']}/evaluate/examples.json")]
            rows = json.loads(examples[0])["examples"]
            fake.answers[version["version"]] = [row["prediction"] for row in rows]
        fake.alarms = dict.fromkeys(
            {name for config in self.configs().values() if config.deployment for name in config.deployment.alarms}, "OK"
        )

    def configs(self) -> dict[str, RunConfig]:
        """Return the configuration of each deployment that came so far, by prefix."""
        return {
            uri.removesuffix("/config.json"): storage.read_document(uri, RunConfig)
            for uri in self.golden.matching("data/deployments/*/*/config.json")
        }

    def deployments(self, purpose: str = "deploy") -> dict[str, RunConfig]:
        """Return those of the dataset's deployments that are of a purpose."""
        return {
            prefix: config
            for prefix, config in self.configs().items()
            if config.model.name == self.golden.dataset and config.deployment and config.deployment.purpose == purpose
        }

    def document(self, uri: str) -> Any:
        """Return a JSON object, None where there is none."""
        return self.s3.document(uri) if storage.split_uri(uri) in self.s3.objects else None

    def saved_model(self, version: str) -> Path:
        return self.golden.models()[self.versions[version]["run_id"]] / "model"

    def run(self, config: RunConfig, prefix: str) -> DeployResult:
        """Run the step, which must succeed."""
        storage.write_document(f"{prefix}/config.json", config)
        code = run_step("deploy", run, f"{prefix}/config.json", f"{prefix}/evaluate", prefix)
        assert code == 0, storage.read_document(f"{prefix}/error.json", StepFailure).message
        return storage.read_document(f"{prefix}/result.json", DeployResult)

    def _download(self, tracking_uri: str, source: str, directory: Path) -> Path:
        shutil.copytree(self.saved_model(source.rpartition("/")[2]), directory / "data", dirs_exist_ok=True)
        return directory


__all__ = ["DeployResult", "Intent", "World", "differences", "find_model", "make_plan", "pack", "storage"]
