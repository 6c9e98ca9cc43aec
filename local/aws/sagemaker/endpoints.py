"""Endpoints: the status machine of the real service over fleets of local processes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from local.aws.sagemaker.catalog import as_tags, find_config
from local.aws.sagemaker.errors import AwsError, DeploymentError, ValidationException
from local.aws.sagemaker.faults import Faults
from local.aws.sagemaker.fleet import Fleet, FleetBuilder
from local.aws.sagemaker.listing import page, select
from local.aws.sagemaker.protocol import Operation
from local.aws.sagemaker.store import Record, Store, now

log = logging.getLogger(__name__)

_IN_PROGRESS = frozenset({"Creating", "Updating", "RollingBack", "Deleting"})
_INVOKABLE = frozenset({"InService", "Updating", "RollingBack"})
_RETAINED_MEMBERS = {"DesiredWeight": "InitialVariantWeight", "DesiredInstanceCount": "InitialInstanceCount"}


@dataclass
class Deployment:
    """A fleet on its way into service."""

    config: Record
    started: datetime
    retained: dict[str, dict[str, Any]]
    deployment_config: dict[str, Any] | None

    def summary(self) -> dict[str, Any]:
        """Return what DescribeEndpoint shows as PendingDeploymentSummary."""
        variants = [self._variant(request) for request in self.config.request["ProductionVariants"]]
        return {
            "EndpointConfigName": self.config.name,
            "ProductionVariants": variants,
            "StartTime": self.started,
        }

    def _variant(self, request: dict[str, Any]) -> dict[str, Any]:
        request = request | self.retained.get(request["VariantName"], {})
        return {
            "VariantName": request["VariantName"],
            "CurrentWeight": 0.0,
            "DesiredWeight": request["InitialVariantWeight"],
            "CurrentInstanceCount": 0,
            "DesiredInstanceCount": request["InitialInstanceCount"],
            "InstanceType": request["InstanceType"],
            "VariantStatus": [{"Status": "Creating", "StartTime": self.started}],
        }


@dataclass
class Endpoint:
    """An endpoint; every field is read and written under the store's lock."""

    name: str
    arn: str
    created: datetime
    modified: datetime
    status: str
    config_name: str
    fleet: Fleet | None = None
    pending: Deployment | None = None
    failure_reason: str | None = None
    last_deployment_config: dict[str, Any] | None = None

    def set_status(self, status: str) -> None:
        """Change the status and the time of the last change."""
        self.status = status
        self.modified = now()


class Endpoints:
    """Operations on endpoints. Changes happen in background threads, one at a time for an endpoint."""

    def __init__(self, store: Store, builder: FleetBuilder, faults: Faults, min_state_seconds: float) -> None:
        self._store = store
        self._builder = builder
        self._faults = faults
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

    def live_fleet(self, name: str) -> Fleet:
        """Return the fleet that answers requests to the endpoint; the runtime compares names with case."""
        with self._store.lock:
            endpoint = self._endpoints.get(name.lower())
            if endpoint and endpoint.name == name and endpoint.fleet and endpoint.status in _INVOKABLE:
                return endpoint.fleet
        raise AwsError("ValidationError", f"Endpoint {name} of account {self._store.names.account} not found.")

    def create(self, params: dict[str, Any]) -> dict[str, Any]:
        """Create an endpoint and start its first fleet."""
        _check_deployment_config(params.get("DeploymentConfig"))
        name = params["EndpointName"]
        config = find_config(self._store, params["EndpointConfigName"])
        deployment = Deployment(config, now(), {}, params.get("DeploymentConfig"))
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
        _check_deployment_config(params.get("DeploymentConfig"))
        with self._store.lock:
            endpoint = self._changeable(params["EndpointName"])
            config = find_config(self._store, params["EndpointConfigName"])
            find_config(self._store, endpoint.config_name)  # the real service cannot update without the live one
            keep = params.get("RetainDeploymentConfig") and "DeploymentConfig" not in params
            deployment_config = endpoint.last_deployment_config if keep else params.get("DeploymentConfig")
            retained = _retained(endpoint.fleet, params) if params.get("RetainAllVariantProperties") else {}
            endpoint.pending = deployment = Deployment(config, now(), retained, deployment_config)
            endpoint.failure_reason = None
            endpoint.set_status("Updating")
        self._background(self._update, endpoint, deployment)
        return {"EndpointArn": endpoint.arn}

    def update_weights(self, params: dict[str, Any]) -> dict[str, Any]:
        """Change weights and instance counts of running variants, without a new fleet."""
        desired = {item["VariantName"]: item for item in params["DesiredWeightsAndCapacities"]}
        with self._store.lock:
            endpoint = self._changeable(params["EndpointName"])
            assert endpoint.fleet is not None
            known = {variant.name for variant in endpoint.fleet.variants}
            if unknown := sorted(set(desired) - known):
                raise ValidationException(f'Could not find variant "{unknown[0]}" of endpoint "{endpoint.arn}".')
            endpoint.set_status("Updating")
        self._background(self._update_weights, endpoint, desired)
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
            fleet = self._start_fleet(endpoint, deployment, "update-fails")
        except DeploymentError as error:
            self._hold(began)
            with self._store.lock:
                endpoint.set_status("RollingBack")
                endpoint.failure_reason = str(error)
            self._hold(time.monotonic())
            self._settle(endpoint, "InService", str(error))
            return
        self._hold(began)
        with self._store.lock:
            old = endpoint.fleet
        self._put_in_service(endpoint, fleet, deployment)
        if old:
            old.drain()
            self._stop_fleet(old)

    def _update_weights(self, endpoint: Endpoint, desired: dict[str, dict[str, Any]]) -> None:
        self._hold(time.monotonic())
        with self._store.lock:
            for variant in endpoint.fleet.variants if endpoint.fleet else []:
                change = desired.get(variant.name, {})
                variant.weight = change.get("DesiredWeight", variant.weight)
                variant.instances = change.get("DesiredInstanceCount", variant.instances)
            endpoint.set_status("InService")

    def _delete(self, endpoint: Endpoint) -> None:
        began = time.monotonic()
        if endpoint.fleet:
            self._stop_fleet(endpoint.fleet)
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

    def _stop_fleet(self, fleet: Fleet) -> None:
        fleet.stop()
        with self._store.lock:
            self._fleets.discard(fleet)

    def _put_in_service(self, endpoint: Endpoint, fleet: Fleet, deployment: Deployment) -> None:
        with self._store.lock:
            endpoint.fleet = fleet
            endpoint.config_name = fleet.config_name
            endpoint.last_deployment_config = deployment.deployment_config
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
        if endpoint.status != "InService":
            raise ValidationException(f'Cannot update {endpoint.status.lower()} endpoint "{endpoint.arn}".')
        return endpoint

    def _background(self, work: Callable[..., None], endpoint: Endpoint, *args: Any) -> None:
        def run() -> None:
            try:
                work(endpoint, *args)
            except Exception as error:  # a bug here must not leave an endpoint in progress for ever
                log.exception("endpoint %s", endpoint.name)
                self._settle(endpoint, "Failed", f"Internal error of the local SageMaker: {error!r}")

        threading.Thread(target=run, name=f"endpoint-{endpoint.name}", daemon=True).start()


def _check_deployment_config(config: dict[str, Any] | None) -> None:
    """Check what the service model cannot say; see the API reference of TrafficRoutingConfig."""
    if not config:
        return
    if len({"BlueGreenUpdatePolicy", "RollingUpdatePolicy"} & set(config)) > 1:
        raise ValidationException("BlueGreenUpdatePolicy and RollingUpdatePolicy cannot be given together.")
    routing = config.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    member = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}.get(routing.get("Type"))
    if member and member not in routing:
        raise ValidationException(f"{member} is required when the traffic routing type is {routing['Type']}.")
    if member and routing[member]["Type"] == "CAPACITY_PERCENT" and routing[member]["Value"] > 50:
        raise ValidationException(f"{member} must be less than or equal to 50 percent of the variant's capacity.")


def _retained(fleet: Fleet | None, params: dict[str, Any]) -> dict[str, dict[str, Any]]:
    excluded = {item["VariantPropertyType"] for item in params.get("ExcludeRetainedVariantProperties", [])}
    kept = {member: request for member, request in _RETAINED_MEMBERS.items() if member not in excluded}
    variants = fleet.variants if fleet else []
    return {v.name: {request: v.summary()[member] for member, request in kept.items()} for v in variants}


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
    # Nothing is captured here, and the status says so.
    return {
        "EnableCapture": capture.get("EnableCapture", False),
        "CaptureStatus": "Stopped",
        "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
        "DestinationS3Uri": capture["DestinationS3Uri"],
        "KmsKeyId": capture.get("KmsKeyId", ""),
    }
