"""SageMaker, MLflow and S3 in memory, for a deployer that dies at any of its calls."""

from __future__ import annotations

import copy
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from helpers import ARTIFACTS, DATA, ROWS, make_config, make_examples
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST

from deployer import rollout as rollout_module
from deployer.deploy import run
from deployer.plan import Plan, Variant
from deployer.sagemaker_api import AlarmState, EndpointState, LiveVariant, Made
from mlplatform import storage
from mlplatform.documents.deployment import DeployResult
from mlplatform.documents.results import StepFailure
from mlplatform.documents.run import Candidate
from mlplatform.promotion import registry
from mlplatform.steps import run_step
from modelformat import digest


class Killed(BaseException):
    """Ends the deployer as a signal would: nothing of it runs any more."""


@dataclass
class Death:
    """When it comes: before the call of a number has any effect, or after it, so that the answer is lost."""

    at: int | None = None
    answer_lost: bool = False
    calls: list[str] = field(default_factory=list)
    dead: bool = False

    def before(self, name: str) -> None:
        if not self.dead:
            self.calls.append(name)
            self.dead = len(self.calls) == self.at and not self.answer_lost
        if self.dead:
            raise Killed

    def after(self) -> None:
        if len(self.calls) == self.at:
            self.dead = True
            raise Killed


class Mortal:
    """Passes calls on to a service until death comes."""

    def __init__(self, service: Any, death: Death) -> None:
        self._service = service
        self._death = death

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._service, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._death.before(name)
            try:
                return method(*args, **kwargs)
            finally:
                self._death.after()

        return call


class S3:
    """Objects with conditional writes."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], tuple[bytes, str]] = {}
        self._writes = 0

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        if (found := self.objects.get((Bucket, Key))) is None:
            raise ClientError({"Error": {"Code": "NoSuchKey", "Message": Key}}, "GetObject")
        return {"Body": io.BytesIO(found[0]), "ETag": found[1]}

    def put_object(self, Bucket: str, Key: str, Body: bytes, **options: Any) -> dict[str, Any]:
        there = self.objects.get((Bucket, Key))
        if (options.get("IfNoneMatch") and there) or (
            "IfMatch" in options and (there is None or there[1] != options["IfMatch"])
        ):
            raise ClientError({"Error": {"Code": "PreconditionFailed", "Message": Key}}, "PutObject")
        self._writes += 1
        self.objects[Bucket, Key] = (Body, f'"{self._writes}"')
        return {"ETag": f'"{self._writes}"'}

    def document(self, uri: str) -> Any:
        return json.loads(self.objects[storage.split_uri(uri)][0])

    def rewrite(self, uri: str, **changes: Any) -> None:
        """Change fields of a document."""
        bucket, key = storage.split_uri(uri)
        self.put_object(bucket, key, json.dumps(self.document(uri) | changes).encode())


class Mlflow:
    """The registry's client."""

    def __init__(self) -> None:
        self.aliases: dict[str, str] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.refuses: set[str] = set()

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        if alias not in self.aliases:
            raise MlflowException(f"Registered model alias {alias} not found.", INVALID_PARAMETER_VALUE)
        return SimpleNamespace(version=self.aliases[alias])

    def get_model_version(self, name: str, version: str) -> Any:
        if version not in self.tags:
            raise MlflowException(version, RESOURCE_DOES_NOT_EXIST)
        return SimpleNamespace(
            name=name,
            version=version,
            run_id=f"run-{version}",
            source=f"mlflow-artifacts:/{version}",
            tags=self.tags[version],
        )

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        self.tags[version][key] = value

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        if alias in self.refuses:
            raise ConnectionError("the registry is gone")
        self.aliases[alias] = version

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        self.aliases.pop(alias, None)

    def search_model_versions(self, wanted: str) -> list[Any]:
        value = wanted.rsplit("'", 2)[1]
        return [SimpleNamespace(version=v) for v, tags in self.tags.items() if tags.get("deployment") == value]


class FakeSageMaker:
    """One endpoint; every change takes a few looks, and ends as the versions' fates say."""

    def __init__(self) -> None:
        self.models_made: dict[str, dict[str, Any]] = {}
        self.configs_made: dict[str, dict[str, Any]] = {}
        self.created: dict[str, datetime] = {}
        self.state: EndpointState | None = None
        self.changes: list[Any] = []
        """What was asked of the endpoint."""
        self.coming: list[EndpointState | None] = []
        self.alarms: dict[str, str] = {}
        self.alarm_seconds = 60
        self.scaled: set[str] = set()
        self.fates: dict[str, str] = {}
        """By version: ``rolls-back``, ``fails``, ``stuck``."""
        self.answers: dict[str, list[float]] = {}
        self.refuses: set[str] = set()
        self.endpoint_tags: dict[str, str] = {}

    def describe_model(self, name: str) -> dict[str, Any] | None:
        found = self.models_made.get(name)
        return {**found, "ModelName": name} if found else None

    def describe_config(self, name: str) -> dict[str, Any] | None:
        found = self.configs_made.get(name)
        return {**found, "EndpointConfigName": name} if found else None

    def create_model(self, plan: Plan, variant: Variant) -> None:
        assert variant.model_name not in self.models_made
        self.models_made[variant.model_name] = variant.model
        self._stamp(variant.model_name)

    def create_config(self, plan: Plan) -> None:
        assert plan.config_name not in self.configs_made
        assert all(variant["ModelName"] in self.models_made for variant in plan.config["ProductionVariants"])
        self.configs_made[plan.config_name] = plan.config
        self._stamp(plan.config_name)

    def endpoint(self, name: str) -> EndpointState | None:
        if self.coming:
            self.state = self.coming.pop(0)
        return self.state

    def create_endpoint(self, plan: Plan, config_name: str) -> None:
        assert self.endpoint("") is None
        self.endpoint_tags = dict(plan.tags)
        self.changes.append(("create", config_name))
        fails = self._fate(config_name) == "fails"
        end = EndpointState("Failed", config_name, "no image") if fails else self._runs(config_name, {})
        self._becomes(EndpointState("Creating", config_name), end)

    def update_endpoint(
        self, name: str, config_name: str, request: Mapping[str, Any] | None = None, *, keep_counts: bool = False
    ) -> None:
        now = self._changeable()
        assert config_name in self.configs_made, "an endpoint cannot change to a configuration that is gone"
        assert now.config_name in self.configs_made, "an endpoint cannot change without its live configuration"
        self.changes.append(("update", config_name, request, keep_counts))
        counts = {variant.name: variant.instances for variant in now.variants} if keep_counts else {}
        fate = self._fate(config_name)
        updating = EndpointState("Updating", now.config_name, None, now.variants, now.capture)
        if fate == "rolls-back":
            back = EndpointState("InService", now.config_name, "an alarm is red", now.variants, now.capture)
            self._becomes(updating, EndpointState("RollingBack", now.config_name), back)
        elif fate == "stuck":
            self._becomes(updating, EndpointState("UpdateRollbackFailed", now.config_name, "mixed", now.variants))
        else:
            self._becomes(updating, self._runs(config_name, counts))

    def tag_endpoint(self, name: str, tags: Mapping[str, str]) -> None:
        if "tags" in self.refuses:
            raise ClientError({"Error": {"Code": "ValidationException", "Message": "at most 50 tags"}}, "AddTags")
        self.endpoint_tags |= tags

    def update_weights(self, name: str, weights: Mapping[str, float]) -> None:
        now = self._changeable()
        self.changes.append(("weights", dict(weights)))
        variants = tuple(
            LiveVariant(variant.name, weights.get(variant.name, variant.weight), variant.instances, variant.images)
            for variant in now.variants
        )
        end = EndpointState("InService", now.config_name, None, variants, now.capture)
        self._becomes(EndpointState("Updating", now.config_name, None, now.variants, now.capture), end)

    def delete_endpoint(self, name: str) -> None:
        self.changes.append(("delete",))
        now = self.endpoint("")
        self._becomes(EndpointState("Deleting", now.config_name if now else ""), None)

    def invoke(self, name: str, variant: str, body: bytes) -> bytes:
        assert self.state is not None
        assert self.state.status == "InService"
        configured = self.configs_made[self.state.config_name]["ProductionVariants"]
        model = next(item["ModelName"] for item in configured if item["VariantName"] == variant)
        environment = self.models_made[model]["PrimaryContainer"]["Environment"]
        version = environment["MODEL_VERSION"]
        answer = {"version": version, "digest": environment["MODEL_DIGEST"]}
        return json.dumps({"predictions": self.answers[version], "model": answer}).encode()

    def configs(self, name_contains: str) -> list[Made]:
        return [Made(name, self.created[name]) for name in self.configs_made if name_contains in name]

    def models(self, name_contains: str) -> list[Made]:
        return [Made(name, self.created[name]) for name in self.models_made if name_contains in name]

    # As the service does, these delete what is in use too: the tests look at what is left.

    def delete_config(self, name: str) -> None:
        self.configs_made.pop(name, None)

    def delete_model(self, name: str) -> None:
        self.models_made.pop(name, None)

    def alarm_states(self, names: Sequence[str]) -> dict[str, AlarmState]:
        return {name: AlarmState(self.alarms[name], self.alarm_seconds) for name in names if name in self.alarms}

    def is_scaled(self, name: str, variant: str) -> bool:
        return variant in self.scaled

    def _changeable(self) -> EndpointState:
        now = self.endpoint("")
        assert now is not None
        if now.status != "InService":
            raise ClientError({"Error": {"Code": "ValidationException", "Message": "Cannot update"}}, "UpdateEndpoint")
        return now

    def _becomes(self, *states: EndpointState | None) -> None:
        self.state, self.coming = states[0], list(states)

    def _runs(self, config_name: str, counts: Mapping[str, int]) -> EndpointState:
        config = self.configs_made[config_name]
        variants = tuple(
            LiveVariant(
                item["VariantName"],
                item["InitialVariantWeight"],
                counts.get(item["VariantName"], item["InitialInstanceCount"]),
                (self.models_made[item["ModelName"]]["PrimaryContainer"]["Image"],),
            )
            for item in config["ProductionVariants"]
        )
        capture = config.get("DataCaptureConfig")
        described = capture and {
            "EnableCapture": True,
            "CaptureStatus": "Started",
            "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
            "DestinationS3Uri": capture["DestinationS3Uri"],
        }
        return EndpointState("InService", config_name, None, variants, described)

    def _fate(self, config_name: str) -> str | None:
        found = (version for version in self.fates if f"-v{version}-" in config_name)
        return next((self.fates[version] for version in found), None)

    def _stamp(self, name: str) -> None:
        # Later ones later, and the same after an interruption: not by the clock.
        self.created.setdefault(name, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=len(self.created)))


class Scenario:
    """One dataset, its registry and its endpoint."""

    NAME = "scenario"

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.s3, self.mlflow, self.sagemaker = S3(), Mlflow(), FakeSageMaker()
        self._folder = folder
        self._patch = monkeypatch
        self._prefixes = 0
        self._digests: dict[str, str] = {}
        self.live_with(Death())
        for version in "123456789":
            self.register(version)

    def twin(self) -> Scenario:
        """The same once more: what happens there does not happen here."""
        twin = copy.copy(self)
        twin.s3, twin.mlflow, twin.sagemaker = copy.deepcopy((self.s3, self.mlflow, self.sagemaker))
        return twin

    def live_with(self, death: Death) -> Death:
        """Let the next deployer die so."""
        self._patch.setattr(storage, "client", lambda: Mortal(self.s3, death))
        self._patch.setattr("deployer.deploy.SageMaker", lambda region: Mortal(self.sagemaker, death))
        self._patch.setattr(registry, "client", lambda uri: Mortal(self.mlflow, death))
        self._patch.setattr(registry, "download", self._download)
        self._patch.setattr(rollout_module.time, "sleep", lambda _: None)
        return death

    def register(self, version: str) -> None:
        files = self._folder / version / "model"
        if not files.exists():
            files.mkdir(parents=True)
            (files / "manifest.json").write_text(f'{{"version": {version}}}')
        self._digests[version] = digest(files)
        self.mlflow.tags[version] = {}
        self.sagemaker.answers[version] = [int(version) / 100 + row / 10 for row in range(len(ROWS))]

    def experiment(self, version: str, weight: float) -> dict[str, Any]:
        return {
            "version": version,
            "run_id": f"run-{version}",
            "model_digest": self._digests[version],
            "weight": weight,
        }

    def prepare(self, version: str, *, predictions: list[float] | None = None, **deployment: Any) -> str:
        """Write what a deployment reads, and return its prefix."""
        self._prefixes += 1
        prefix = f"s3://{DATA}/deployments/flights/{self._prefixes}"
        candidate = Candidate(version=version, run_id=f"run-{version}", model_digest=self._digests[version])
        options = {"examples_uri": f"{prefix}/examples.json", "instance_count": 2, **deployment}
        config = make_config(self.NAME, candidate, "http://mlflow.invalid", **options)
        self.live_with(Death())
        storage.write_document(f"{prefix}/config.json", config)
        expected = predictions or self.sagemaker.answers[version]
        storage.write_document(f"{prefix}/examples.json", make_examples(expected))
        return prefix

    def run(self, prefix: str, death: Death | None = None) -> int:
        """Run the step and return its exit code."""
        self.live_with(death or Death())
        return run_step("deploy", run, f"{prefix}/config.json", f"{prefix}/evaluate", prefix)

    def deploy(self, version: str, **deployment: Any) -> DeployResult:
        prefix = self.prepare(version, **deployment)
        assert self.run(prefix) == 0, self.error(prefix).message
        return self.result(prefix)

    def result(self, prefix: str) -> DeployResult:
        return DeployResult.model_validate(self.s3.document(f"{prefix}/result.json"))

    def error(self, prefix: str) -> StepFailure:
        return StepFailure.model_validate(self.s3.document(f"{prefix}/error.json"))

    def alias(self) -> tuple[str | None, str | None]:
        return self.mlflow.aliases.get("champion"), self.mlflow.aliases.get("previous")

    def marks(self) -> dict[str, str]:
        return {version: tags["deployment"] for version, tags in self.mlflow.tags.items() if "deployment" in tags}

    def end(self) -> dict[str, Any]:
        """What is there at the end, without times: the same however often a deployer died on the way."""
        self.live_with(Death())
        documents = {key: json.loads(body) for (_, key), (body, _) in self.s3.objects.items() if key.endswith(".json")}
        told = {
            key: {name: value for name, value in document.items() if name not in VOLATILE}
            for key, document in documents.items()
            if key.endswith(("result.json", "error.json"))
        }
        return {
            "endpoint": self.sagemaker.endpoint(self.NAME),
            "endpoint's tags": self.sagemaker.endpoint_tags,
            "models": self.sagemaker.models_made,
            "configs": self.sagemaker.configs_made,
            "aliases": self.mlflow.aliases,
            "tags": self.mlflow.tags,
            "told": told,
            "archives": sorted(key for bucket, key in self.s3.objects if bucket == ARTIFACTS),
            "released": documents["deployments/flights/lock.json"]["released"],
        }

    def _download(self, tracking_uri: str, source: str, directory: Path) -> Path:
        shutil.copytree(self._folder / source.rpartition("/")[2], directory, dirs_exist_ok=True)
        return directory


VOLATILE = frozenset({"started_at", "finished_at", "seconds"})
