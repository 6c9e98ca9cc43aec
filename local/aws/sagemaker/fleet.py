"""A fleet: the serving processes of one endpoint configuration, and which of them answers a request."""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from local.aws.sagemaker.catalog import container_data_url, container_of, find_model
from local.aws.sagemaker.errors import AwsError, DeploymentError, ValidationException
from local.aws.sagemaker.model_data import ModelData
from local.aws.sagemaker.processes import ServingProcess, ServingSpec, Spawner
from local.aws.sagemaker.store import Store, now
from local.images import ImageRegistry

_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_DRAIN_SECONDS = 60.0  # the longest time a container may take for an answer


@dataclass
class Variant:
    """A production variant of a fleet, with what DescribeEndpoint says of it."""

    request: dict[str, Any]
    weight: float
    instances: int
    image: str
    resolved: datetime
    process: ServingProcess
    desired: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return the variant's name."""
        return str(self.request["VariantName"])

    def summary(self) -> dict[str, Any]:
        """Return the variant as DescribeEndpoint shows it."""
        image = {"SpecifiedImage": self.image, "ResolvedImage": self.image, "ResolutionTime": self.resolved}
        return {
            "VariantName": self.name,
            "DeployedImages": [image],
            "CurrentWeight": self.weight,
            "DesiredWeight": self.desired.get("DesiredWeight", self.weight),
            "CurrentInstanceCount": self.instances,
            "DesiredInstanceCount": self.desired.get("DesiredInstanceCount", self.instances),
        }

    def settle(self) -> None:
        """Make what is desired current."""
        self.weight = self.desired.get("DesiredWeight", self.weight)
        self.instances = self.desired.get("DesiredInstanceCount", self.instances)
        self.desired = {}


class Fleet:
    """The running variants of one endpoint configuration."""

    def __init__(self, config: dict[str, Any], variants: list[Variant], directory: Path) -> None:
        self.config = config
        self.variants = variants
        self._directory = directory
        self._idle = threading.Condition()
        self._in_flight = 0

    @property
    def config_name(self) -> str:
        """Return the name of the endpoint configuration that this fleet runs."""
        return str(self.config["EndpointConfigName"])

    def start(self) -> None:
        """Start all variants and wait until all are healthy; raises DeploymentError when one is not."""
        for variant in self.variants:
            variant.process.start()
        for variant in self.variants:
            variant.process.wait_healthy()

    def enter(self) -> None:
        """Count a request; the fleet is not stopped before it has left."""
        with self._idle:
            self._in_flight += 1

    def leave(self) -> None:
        """Say that a request has been answered."""
        with self._idle:
            self._in_flight -= 1
            self._idle.notify_all()

    def drain(self) -> None:
        """Wait until no request is in flight."""
        deadline = time.monotonic() + _DRAIN_SECONDS
        with self._idle:
            while self._in_flight and (left := deadline - time.monotonic()) > 0:
                self._idle.wait(left)

    def stop(self) -> None:
        """End all processes and remove their model directories."""
        for variant in self.variants:
            variant.process.request_stop()
        for variant in self.variants:
            variant.process.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def choose(self, target: str | None) -> Variant:
        """Return the target variant, else one by weight."""
        if target is None:
            return random.choices(self.variants, [variant.weight for variant in self.variants])[0]
        for variant in self.variants:
            if variant.name == target:
                return variant
        raise AwsError("ValidationError", f"Variant {target} not found for Request")


class FleetBuilder:
    """Makes fleets: looks up models and images, unpacks model data."""

    def __init__(
        self,
        store: Store,
        images: ImageRegistry,
        model_data: ModelData,
        spawner: Spawner,
        state_dir: Path,
        startup_seconds: float,
    ) -> None:
        self._store = store
        self._images = images
        self._model_data = model_data
        self._spawner = spawner
        self._state_dir = state_dir
        self._startup_seconds = startup_seconds

    def build(self, endpoint: str, config: dict[str, Any], retained: dict[str, dict[str, Any]]) -> Fleet:
        """Return a fleet that is ready to start; raises DeploymentError with the real service's reason.

        `retained` holds weight and instance count by variant, where an update keeps them.
        """
        models = self._state_dir / "models"
        models.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=f"{endpoint}-", dir=models))
        try:
            variants = [
                self._variant(endpoint, request | retained.get(request["VariantName"], {}), directory)
                for request in config["ProductionVariants"]
            ]
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return Fleet(config, variants, directory)

    def _variant(self, endpoint: str, request: dict[str, Any], directory: Path) -> Variant:
        name = request["VariantName"]
        try:
            container = container_of(find_model(self._store, request["ModelName"]).request)
        except ValidationException as error:
            raise DeploymentError(error.message) from None
        image = self._images.find(container["Image"])
        if image is None:
            raise DeploymentError(_image_missing(container["Image"]))
        model_dir = directory / name
        model_dir.mkdir()
        if url := container_data_url(container):
            self._model_data.unpack(url, model_dir)
        env = {"PATH": _DEFAULT_PATH, **image.env, **container.get("Environment", {}), "SM_MODEL_DIR": str(model_dir)}
        spec = ServingSpec(
            variant=name,
            command=[*image.entrypoint, "serve"],
            env=env,
            working_dir=image.working_dir,
            log_file=self._state_dir / "logs" / "sagemaker" / endpoint / f"{name}.log",
            startup_seconds=request.get("ContainerStartupHealthCheckTimeoutInSeconds", self._startup_seconds),
        )
        return Variant(
            request=request,
            weight=request["InitialVariantWeight"],
            instances=request["InitialInstanceCount"],
            image=container["Image"],
            resolved=now(),
            process=ServingProcess(spec, self._spawner),
        )


def _image_missing(reference: str) -> str:
    registry, _, rest = reference.partition("/")
    repository, _, tag = rest.partition(":")
    return (
        f"The repository '{repository or registry}' with tag '{tag or 'latest'}' in registry '{registry}' does not "
        f"exist. The image '{reference}' does not exist; is it in the images file?"
    )
