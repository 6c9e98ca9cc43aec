"""Puts the parts of the local AWS API together."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from local.aws.application_autoscaling import SERVICE, TARGET_PREFIX, ApplicationAutoScaling
from local.aws.clock import Clock
from local.aws.cloudwatch import CloudWatch
from local.aws.conditional_writes import SerializedWrites
from local.aws.dispatcher import Dispatcher
from local.aws.sagemaker.capture import Capture
from local.aws.sagemaker.catalog import Catalog
from local.aws.sagemaker.endpoints import Endpoints
from local.aws.sagemaker.faults import Faults
from local.aws.sagemaker.fleet import FleetBuilder
from local.aws.sagemaker.metrics import Metrics
from local.aws.sagemaker.model_data import ModelData
from local.aws.sagemaker.processes import Spawner
from local.aws.sagemaker.protocol import ControlPlane
from local.aws.sagemaker.runtime import Runtime
from local.aws.sagemaker.store import Names, Store
from local.aws.server import AccessLog, make_keep_alive_server
from local.images import ImageRegistry


class Application:
    """The server with all its services; the port is bound when this returns."""

    def __init__(
        self,
        *,
        port: int,
        state_dir: Path,
        images: Path,
        region: str,
        account: str,
        min_state_seconds: float,
        startup_seconds: float,
        time_scale: float,
        capture_seconds: float,
        s3_endpoint: str | None,
        access_log: AccessLog | None,
    ) -> None:
        names = Names(region, account)
        store = Store(names)
        faults = Faults()
        model_data = ModelData(s3_endpoint or f"http://127.0.0.1:{port}", region, account)
        builder = FleetBuilder(store, ImageRegistry(images), model_data, Spawner(), state_dir, startup_seconds)
        clock, cloudwatch = Clock(time_scale), CloudWatch(account, region)
        self._metrics = Metrics(cloudwatch, clock)
        self._capture = Capture(model_data.client, capture_seconds)
        self._endpoints = Endpoints(store, builder, faults, cloudwatch, self._metrics, clock, min_state_seconds)
        catalog = Catalog(store, model_data, self._endpoints.exists)
        scaling = ApplicationAutoScaling(region, account, self._endpoints.has_variant)
        control_planes = {
            "SageMaker.": ControlPlane(catalog.operations() | self._endpoints.operations(), region),
            TARGET_PREFIX: ControlPlane(scaling.operations(), region, SERVICE),
        }
        moto = SerializedWrites(DomainDispatcherApplication(create_backend_app))
        runtime = Runtime(self._endpoints, faults, names, self._metrics, self._capture)
        app = Dispatcher(moto, control_planes, runtime, faults)
        self._server = make_keep_alive_server(port, app, access_log)

    def start(self) -> None:
        """Serve, in a thread of its own."""
        self._metrics.start()
        self._capture.start()
        serve = partial(self._server.serve_forever, poll_interval=0.1)  # how often it looks whether to stop
        threading.Thread(target=serve, name="server", daemon=True).start()

    def stop(self) -> None:
        """Stop all serving processes, write what was captured, then stop the server."""
        self._endpoints.close()
        self._metrics.close()
        self._capture.close()
        self._server.shutdown()
        self._server.server_close()
