"""Endpoints: the status machine of the real service over fleets of local processes."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from local.aws.clock import Clock
from local.aws.cloudwatch import CloudWatch
from local.aws.sagemaker.catalog import as_tags, find_config
from local.aws.sagemaker.deployment import Deployment, retained, with_retained
from local.aws.sagemaker.endpoint import Endpoint, Route
from local.aws.sagemaker.errors import AwsError, DeploymentError, ValidationException
from local.aws.sagemaker.faults import Faults
from local.aws.sagemaker.fleet import Fleet, FleetBuilder
from local.aws.sagemaker.listing import page, select
from local.aws.sagemaker.metrics import Metrics
from local.aws.sagemaker.protocol import Operation
from local.aws.sagemaker.rollout import Rollout, alarm_names, check, plan
from local.aws.sagemaker.store import Store, now

log = logging.getLogger(__name__)

_IN_PROGRESS = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
_INVOKABLE = frozenset({"InService", "Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed"})
_CHANGEABLE = frozenset({"InService", "UpdateRollbackFailed"})
_ALARM_LOOK_SECONDS = 0.02


class Endpoints:
    """Operations on endpoints. Changes happen in background threads, one at a time for an endpoint."""

    def __init__(
        self,
        store: Store,
        builder: FleetBuilder,
        faults: Faults,
        cloudwatch: CloudWatch,
        metrics: Metrics,
        clock: Clock,
        min_state_seconds: float,
    ) -> None:
        self._store = store
        self._builder = builder
        self._faults = faults
        self._cloudwatch = cloudwatch
        self._metrics = metrics
        self._clock = clock
        self._min_state_seconds = min_state_seconds
        self._endpoints: dict[str, Endpoint] = {}
        self._fleets: set[Fleet] = set()  # all that may have processes, also those starting or draining
        self._closing = threading.Event()

    def operations(self) -> dict[str, Operation]:
        """Return the operations by the names that the service gives them."""
        return {
            "CreateEndpoint": self.create,
            "UpdateEndpoint": self.update,
            "UpdateEndpointWeightsAndCapacities": self.update_weights,
            "DescribeEndpoint": self.describe,
            "ListEndpoints": self.list,
            "DeleteEndpoint": self.delete,
        }

    def exists(self, name: str) -> bool:
        """Return whether there is an endpoint of this name, in any case."""
        return name.lower() in self._endpoints

    def has_variant(self, name: str, variant: str) -> bool:
        """Return whether an endpoint serves, or is about to serve, a variant of this name."""
        with self._store.lock:
            if not (endpoint := self._endpoints.get(name.lower())):
                return False
            deployments = [endpoint.fleet.config] if endpoint.fleet else []
            if endpoint.pending:
                deployments.append(endpoint.pending.config.request)
            return any(variant == v["VariantName"] for config in deployments for v in config["ProductionVariants"])

    @contextmanager
    def route(self, name: str, target: str | None) -> Iterator[Route]:
        """Choose who answers a request to the endpoint, and keep that fleet alive until it has.

        The runtime compares names with case.
        """
        with self._store.lock:  # with the choice, so that no fleet is found idle and stopped in between
            endpoint = self._endpoints.get(name.lower())
            if not (endpoint and endpoint.name == name and endpoint.fleet and endpoint.status in _INVOKABLE):
                raise AwsError("ValidationError", f"Endpoint {name} of account {self._store.names.account} not found.")
            fleet, variant = endpoint.choose(target)
            route = Route(name, variant, fleet.config.get("DataCaptureConfig"), fleet is endpoint.green)
            fleet.enter()
        try:
            yield route
        finally:
            fleet.leave()

    def create(self, params: dict[str, Any]) -> dict[str, Any]:
        """Create an endpoint and start its first fleet."""
        self._check_deployment_config(params.get("DeploymentConfig"))
        name = params["EndpointName"]
        config = find_config(self._store, params["EndpointConfigName"])
        deployment = Deployment(config, Rollout(()), {}, params.get("DeploymentConfig"))
        arn = self._store.names.arn("endpoint", name)
        with self._store.lock:
            if self.exists(name):
                raise ValidationException(f'Cannot create already existing endpoint "{arn}".')
            endpoint = Endpoint(name, arn, now(), now(), "Creating", config.name, pending=deployment)
            self._endpoints[name.lower()] = endpoint
            self._store.tags[arn] = as_tags(params.get("Tags", []))
        self._background(self._create, endpoint, deployment)
        return {"EndpointArn": arn}

    def update(self, params: dict[str, Any]) -> dict[str, Any]:
        """Start a fleet of the new configuration beside the old one."""
        with self._store.lock:
            endpoint = self._changeable(params["EndpointName"])
            config = find_config(self._store, params["EndpointConfigName"])
            find_config(self._store, endpoint.config_name)  # the real service cannot update without the live one
            keep = params.get("RetainDeploymentConfig") and "DeploymentConfig" not in params
            deployment_config = endpoint.last_deployment_config if keep else params.get("DeploymentConfig")
            self._check_deployment_config(deployment_config)
            kept = retained(endpoint.fleet, params)
            variants = with_retained(config.request, kept)
            counts = {variant["VariantName"]: variant["InitialInstanceCount"] for variant in variants}
            live = {variant.name for variant in endpoint.fleet.variants} if endpoint.fleet else set()
            rollout = plan(deployment_config, counts, live)
            endpoint.pending = deployment = Deployment(config, rollout, kept, deployment_config)
            endpoint.failure_reason = None
            endpoint.set_status("Updating")
        self._background(self._update, endpoint, deployment)
        return {"EndpointArn": endpoint.arn}

    def update_weights(self, params: dict[str, Any]) -> dict[str, Any]:
        """Change weights and instance counts of running variants, without a new fleet."""
        items = params["DesiredWeightsAndCapacities"]
        desired = {item["VariantName"]: item for item in items}
        if len(desired) < len(items):
            raise ValidationException("Variant names must be unique in DesiredWeightsAndCapacities.")
        with self._store.lock:
            endpoint = self._changeable(params["EndpointName"])
            assert endpoint.fleet is not None
            variants = {variant.name: variant for variant in endpoint.fleet.variants}
            if unknown := sorted(set(desired) - set(variants)):
                raise ValidationException(f'Could not find variant "{unknown[0]}" of endpoint "{endpoint.arn}".')
            if any(item.get("DesiredInstanceCount", 1) < 1 for item in items):
                raise ValidationException("DesiredInstanceCount must be at least 1; only inference components go to 0.")
            weights = [desired.get(name, {}).get("DesiredWeight", v.weight) for name, v in variants.items()]
            if sum(weights) <= 0:
                raise ValidationException("At least one production variant must have a weight greater than zero.")
            for name, item in desired.items():
                variants[name].desired = item
            endpoint.set_status("Updating")
        self._background(self._update_weights, endpoint)
        return {"EndpointArn": endpoint.arn}

    def describe(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return an endpoint with its live variants and, while one is under way, the pending deployment."""
        with self._store.lock:
            endpoint = self._find(params["EndpointName"])
            fleet = endpoint.fleet
            return {
                "EndpointName": endpoint.name,
                "EndpointArn": endpoint.arn,
                "EndpointConfigName": endpoint.config_name,
                "ProductionVariants": [variant.summary() for variant in fleet.variants] if fleet else None,
                "DataCaptureConfig": _data_capture(fleet.config) if fleet else None,
                "EndpointStatus": endpoint.status,
                "FailureReason": endpoint.failure_reason,
                "CreationTime": endpoint.created,
                "LastModifiedTime": endpoint.modified,
                "LastDeploymentConfig": endpoint.last_deployment_config,
                "PendingDeploymentSummary": endpoint.pending.summary() if endpoint.pending else None,
            }

    def list(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of endpoints."""
        with self._store.lock:
            summaries = [_summary(endpoint) for endpoint in self._endpoints.values()]
        keys: dict[str, Callable[[dict[str, Any]], Any]] = {
            "Name": lambda row: row["EndpointName"],
            "CreationTime": lambda row: (row["CreationTime"], row["EndpointName"]),
            "Status": lambda row: (row["EndpointStatus"], row["EndpointName"]),
        }
        rows, token = page(select(summaries, params, keys, "EndpointName"), params)
        return {"Endpoints": rows, "NextToken": token}

    def delete(self, params: dict[str, Any]) -> None:
        """Stop and forget an endpoint; the real service refuses while it is being created or changed."""
        with self._store.lock:
            endpoint = self._find(params["EndpointName"])
            if endpoint.status in _IN_PROGRESS:
                raise ValidationException(f'Cannot update in-progress endpoint "{endpoint.arn}".')
            endpoint.set_status("Deleting")
        self._background(self._delete, endpoint)

    def close(self) -> None:
        """Stop all serving processes; nothing starts after this."""
        self._closing.set()
        with self._store.lock:
            fleets = list(self._fleets)
        stoppers = [threading.Thread(target=fleet.stop) for fleet in fleets]
        for stopper in stoppers:
            stopper.start()
        for stopper in stoppers:
            stopper.join()

    def _create(self, endpoint: Endpoint, deployment: Deployment) -> None:
        began = time.monotonic()
        try:
            fleet = self._start_fleet(endpoint, deployment, "create-fails")
        except DeploymentError as error:
            self._hold(began)
            self._settle(endpoint, "Failed", str(error))
            return
        self._hold(began)
        self._put_in_service(endpoint, fleet, deployment)

    def _update(self, endpoint: Endpoint, deployment: Deployment) -> None:
        began = time.monotonic()
        try:
            green = self._start_fleet(endpoint, deployment, "update-fails")
            self._hold(began)
            self._shift(endpoint, deployment, green, time.monotonic() - began)
        except DeploymentError as error:
            self._hold(began)
            self._roll_back(endpoint, str(error))
            return
        if self._faults.strikes("update-rolls-back-silently", endpoint.name):
            self._roll_back(endpoint, None)
            return
        with self._store.lock:
            old = endpoint.fleet
        self._put_in_service(endpoint, green, deployment)
        if old:
            self._retire(old)

    def _shift(self, endpoint: Endpoint, deployment: Deployment, green: Fleet, started_for: float) -> None:
        """Give the green fleet its shares, one after the other; raises DeploymentError when it has to be taken back.

        The service's clock runs faster here than the serving processes start, so the time of their start is counted
        as it is in the limit of the whole deployment.
        """
        rollout = deployment.rollout
        limit = math.inf if rollout.timeout_seconds is None else rollout.timeout_seconds - started_for
        began = self._clock.now()
        for step in rollout.steps:
            with self._store.lock:
                stale, endpoint.green, endpoint.shares = endpoint.green, green, step.shares
                deployment.shares = dict(step.shares)
                deployment.enter("Baking" if step.bake_seconds else "ActivatingTraffic")
            if stale not in (None, green):  # what a failed rollback has left
                self._retire(stale)
            self._wait(rollout, step.bake_seconds, began + limit, rollout.alarms if step.bake_seconds else ())
        self._wait(rollout, rollout.termination_seconds, began + limit, ())

    def _wait(self, rollout: Rollout, seconds: int, deadline: float, alarms: tuple[str, ...]) -> None:
        """Wait, and a little longer until the alarms have been evaluated for all of it; raises DeploymentError."""
        end = self._clock.now() + seconds
        while True:
            over = self._clock.now() >= end and self._metrics.judged(alarms, end)
            if tripped := self._cloudwatch.in_alarm(alarms):
                raise DeploymentError(f"Rolled back, because of alarms in the state ALARM: {', '.join(tripped)}.")
            if self._clock.now() > deadline:
                raise DeploymentError(f"The deployment took longer than {rollout.timeout_seconds} seconds.")
            if over:
                return
            left = max(0.001, self._clock.real(end - self._clock.now()))
            if self._closing.wait(min(_ALARM_LOOK_SECONDS, left)):
                raise DeploymentError("The local AWS API is stopping.")

    def _roll_back(self, endpoint: Endpoint, reason: str | None) -> None:
        began = time.monotonic()
        with self._store.lock:
            endpoint.set_status("RollingBack")
            endpoint.failure_reason = reason
        if self._faults.strikes("rollback-fails", endpoint.name):
            self._hold(began)
            self._settle(endpoint, "UpdateRollbackFailed", "Injected by the fault endpoint: rollback-fails.")
            return
        with self._store.lock:
            green, endpoint.green, endpoint.shares = endpoint.green, None, {}
        if green:
            self._retire(green)
        self._hold(began)
        self._settle(endpoint, "InService", reason)

    def _update_weights(self, endpoint: Endpoint) -> None:
        self._hold(time.monotonic())
        with self._store.lock:
            for variant in endpoint.fleet.variants if endpoint.fleet else []:
                variant.settle()
            endpoint.set_status("UpdateRollbackFailed" if endpoint.green else "InService")

    def _delete(self, endpoint: Endpoint) -> None:
        began = time.monotonic()
        for fleet in (endpoint.fleet, endpoint.green):
            if fleet:
                self._stop_fleet(fleet)
        self._hold(began)
        with self._store.lock:
            del self._endpoints[endpoint.name.lower()]
            self._store.tags.pop(endpoint.arn, None)

    def _start_fleet(self, endpoint: Endpoint, deployment: Deployment, fault: Any) -> Fleet:
        if self._faults.strikes(fault, endpoint.name):
            raise DeploymentError(f"Injected by the fault endpoint: {fault}.")
        fleet = self._builder.build(endpoint.name, deployment.config.request, deployment.retained)
        with self._store.lock:
            if self._closing.is_set():
                raise DeploymentError("The local AWS API is stopping.")
            self._fleets.add(fleet)
        try:
            fleet.start()
        except BaseException:
            self._stop_fleet(fleet)
            raise
        return fleet

    def _retire(self, fleet: Fleet) -> None:
        """Stop a fleet that gets no new requests, after those it has are answered."""
        fleet.drain()
        self._stop_fleet(fleet)

    def _stop_fleet(self, fleet: Fleet) -> None:
        fleet.stop()
        with self._store.lock:
            self._fleets.discard(fleet)

    def _put_in_service(self, endpoint: Endpoint, fleet: Fleet, deployment: Deployment) -> None:
        with self._store.lock:
            endpoint.fleet, endpoint.green, endpoint.shares = fleet, None, {}
            endpoint.config_name = fleet.config_name
            endpoint.last_deployment_config = deployment.deployment_config
        if self._faults.strikes("system-update", endpoint.name):
            self._settle(endpoint, "SystemUpdating", None)
            self._hold(time.monotonic())
        self._settle(endpoint, "InService", None)

    def _settle(self, endpoint: Endpoint, status: str, failure_reason: str | None) -> None:
        with self._store.lock:
            endpoint.pending = None
            endpoint.failure_reason = failure_reason
            endpoint.set_status(status)

    def _hold(self, since: float) -> None:
        """Stay in a state long enough for whoever polls to see it."""
        self._closing.wait(max(0.0, since + self._min_state_seconds - time.monotonic()))

    def _find(self, name: str) -> Endpoint:
        if endpoint := self._endpoints.get(name.lower()):
            return endpoint
        raise ValidationException(f'Could not find endpoint "{self._store.names.arn("endpoint", name)}".')

    def _changeable(self, name: str) -> Endpoint:
        endpoint = self._find(name)
        if endpoint.status in _IN_PROGRESS:
            raise ValidationException(f'Cannot update in-progress endpoint "{endpoint.arn}".')
        if endpoint.status not in _CHANGEABLE:
            raise ValidationException(f'Cannot update {endpoint.status.lower()} endpoint "{endpoint.arn}".')
        return endpoint

    def _check_deployment_config(self, config: dict[str, Any] | None) -> None:
        check(config)
        if missing := self._cloudwatch.missing(alarm_names(config)):
            raise ValidationException(f"There is no CloudWatch alarm of this name: {', '.join(missing)}.")

    def _background(self, work: Callable[..., None], endpoint: Endpoint, *args: Any) -> None:
        def run() -> None:
            try:
                work(endpoint, *args)
            except Exception as error:  # a bug here must not leave an endpoint in progress for ever
                log.exception("endpoint %s", endpoint.name)
                self._settle(endpoint, "Failed", f"Internal error of the local SageMaker: {error!r}")

        threading.Thread(target=run, name=f"endpoint-{endpoint.name}", daemon=True).start()


def _summary(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "CreationTime": endpoint.created,
        "LastModifiedTime": endpoint.modified,
        "EndpointStatus": endpoint.status,
    }


def _data_capture(config: dict[str, Any]) -> dict[str, Any] | None:
    capture = config.get("DataCaptureConfig")
    if not capture:
        return None
    enabled = capture.get("EnableCapture", True)
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
        "DestinationS3Uri": capture["DestinationS3Uri"],
        "KmsKeyId": capture.get("KmsKeyId", ""),
    }
