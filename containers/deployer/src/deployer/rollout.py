"""Changes what an endpoint runs, and changes it back.

Nothing can be changed while an endpoint is on its way, so a rollout waits first. What was live is written
down before anything is changed: a deployer that is killed can be run again, and still knows what to put back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from deployer.plan import VARIANT, Plan, Variant
from deployer.sagemaker_api import AlarmState, EndpointState, Made
from deployer.strategy import Strategy
from deployer.verify import check_live, weights_to_change
from mlplatform.documents.base import Document
from mlplatform.errors import NonRetryableError

log = logging.getLogger(__name__)

IN_PROGRESS = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
PROVISIONING_SECONDS = 1800
"""Time for instances, image and model, on top of what the container may take to start."""
STUCK = "UpdateRollbackFailed"


class Intent(Document):
    """``intent.json``: what is to be live, and what was before. Written before the first change of a deployment."""

    schema_version: int = 2
    oldest_readable = 2
    started_at: datetime
    endpoint_name: str
    model_version: str
    config_name: str
    previous_config_name: str | None
    """None: there was no endpoint. The same as ``config_name``: it was live already."""
    previous_weights: dict[str, float]
    champion: str | None
    previous: str | None
    """The aliases before."""
    strategy: str
    strategy_reason: str
    alarms: list[str]
    ended: bool = False
    """Whether it failed and all was put back: the next attempt is another deployment."""

    def is_of(self, plan: Plan, champion: str | None, previous: str | None, live: str | None) -> bool:
        """Whether it is of an earlier attempt at this deployment, and nobody else deployed since.

        Args:
            plan: of this deployment.
            champion: alias now.
            previous: alias now.
            live: name of the configuration that is live now, None where there is no endpoint.
        """
        mine = (self.endpoint_name, self.model_version) == (plan.endpoint_name, plan.version)
        # The aliases move one after the other.
        on_the_way = {
            (self.champion, self.previous),
            (self.champion, self.champion),
            (plan.version, self.champion),
        }
        return (
            mine
            and not self.ended
            and self.config_name == plan.config_name
            and (champion, previous) in on_the_way
            and live in (self.config_name, self.previous_config_name, None)
        )

    @property
    def changes_configuration(self) -> bool:
        """Whether another configuration was live before."""
        return self.previous_config_name != self.config_name


class RolloutError(Exception):
    """The endpoint does not run what was asked for; the message says why."""


class StuckError(RolloutError):
    """SageMaker could neither update the endpoint nor roll it back: people have to."""


class Api(Protocol):
    """The part of `SageMaker` that a deployment uses."""

    def describe_model(self, name: str) -> dict[str, Any] | None:
        """Return what a model is."""

    def describe_config(self, name: str) -> dict[str, Any] | None:
        """Return what a configuration is."""

    def create_model(self, plan: Plan, variant: Variant) -> None:
        """Create a variant's model."""

    def create_config(self, plan: Plan) -> None:
        """Create the configuration."""

    def endpoint(self, name: str) -> EndpointState | None:
        """Return an endpoint's state."""

    def create_endpoint(self, plan: Plan, config_name: str) -> None:
        """Ask for a new endpoint."""

    def update_endpoint(
        self, name: str, config_name: str, request: Mapping[str, Any] | None = None, *, keep_counts: bool = False
    ) -> None:
        """Ask for another configuration."""

    def tag_endpoint(self, name: str, tags: Mapping[str, str]) -> None:
        """Set tags of an endpoint that exists."""

    def update_weights(self, name: str, weights: Mapping[str, float]) -> None:
        """Ask for other weights."""

    def delete_endpoint(self, name: str) -> None:
        """Ask an endpoint to go."""

    def invoke(self, name: str, variant: str, body: bytes) -> bytes:
        """Ask a variant."""

    def configs(self, name_contains: str) -> list[Made]:
        """List configurations."""

    def models(self, name_contains: str) -> list[Made]:
        """List models."""

    def delete_config(self, name: str) -> None:
        """Delete a configuration."""

    def delete_model(self, name: str) -> None:
        """Delete a model."""

    def alarm_states(self, names: Sequence[str]) -> dict[str, AlarmState]:
        """Return the states of alarms."""

    def is_scaled(self, name: str, variant: str) -> bool:
        """Whether a variant is scaled."""


class Rollout:
    """One change of one endpoint."""

    def __init__(
        self,
        api: Api,
        plan: Plan,
        confirm: Callable[[], None],
        *,
        maximum_seconds: int = 0,
        longest_pause: float = 15.0,
    ) -> None:
        """Prepare a change.

        Args:
            api: of SageMaker.
            plan: what shall be live.
            confirm: called before each change; raises where this deployment may not make it any more.
            maximum_seconds: that SageMaker may take to move the requests.
            longest_pause: between two looks, in seconds.
        """
        self._api = api
        self._plan = plan
        self._name = plan.endpoint_name
        self._confirm = confirm
        self._limit = plan.startup_timeout_seconds + PROVISIONING_SECONDS + maximum_seconds
        self._longest_pause = longest_pause

    def look(self) -> EndpointState | None:
        """Wait for what is under way and return the endpoint's state, None where there is none.

        Raises:
            NonRetryableError: the endpoint is in a state that a person has to look at.
            TimeoutError: another change does not come to its end.
        """
        state = self._settle("another change is under way")
        if state is None or state.status in ("InService", "Failed"):
            return state
        raise NonRetryableError(
            f"endpoint {self._name} is {state.status} ({state.failure_reason or 'no reason given'}); nothing was "
            "changed: repair or delete it (runbook endpoint-rollback), then run the deployment again",
            kind="bad-config",
        )

    def start(self, state: EndpointState | None, strategy: Strategy) -> None:
        """Ask for the planned configuration, unless that is what the endpoint runs already.

        Args:
            state: as `look` returned it.
            strategy: for an endpoint that is in service.

        Raises:
            RolloutError: an endpoint that had failed could not be deleted.
        """
        wanted = self._plan.config_name
        if state is not None and state.status == "Failed":
            log.warning("endpoint %s had failed (%s): deleting it", self._name, state.failure_reason)
            self._delete()
            state = None
        if state is None:
            log.info("creating endpoint %s with %s", self._name, wanted)
            self._confirm()
            self._api.create_endpoint(self._plan, wanted)
        elif state.config_name != wanted:
            log.info("updating endpoint %s from %s to %s: %s", self._name, state.config_name, wanted, strategy)
            self._confirm()
            self._api.update_endpoint(self._name, wanted, strategy.request, keep_counts=strategy.keep_counts)
        else:
            log.info("endpoint %s runs %s already", self._name, wanted)

    def finish(self) -> None:
        """Wait for the change to end, and let the variants have the planned weights.

        Raises:
            RolloutError: it failed, or SageMaker rolled it back.
            TimeoutError: it does not come to its end.
        """
        state = self._finish()
        if weights := weights_to_change(self._plan, state):
            self._set_weights(weights)

    def verify(self) -> None:
        """Compare what is live with what was planned, in full.

        Raises:
            RolloutError: something is not as planned; the message names all of it.
        """
        state = self._finish()
        config = self._api.describe_config(state.config_name)
        models = {variant.model_name: self._api.describe_model(variant.model_name) for variant in self._plan.variants}
        if found := check_live(self._plan, state, config, models):
            raise RolloutError(f"what is live is not what was asked for: {'; '.join(found)}")
        configured = self._plan.config["ProductionVariants"][0]["InitialInstanceCount"]
        for live in state.variants:  # no error: autoscaling may have its reasons
            if live.instances < configured:
                log.warning("variant %s has %d instances, fewer than configured", live.name, live.instances)

    def restore(self, intent: Intent) -> str:
        """Put back what was there before, wait for it, and return a sentence that says what is live now.

        Raises:
            RolloutError: that did not work either.
            TimeoutError: it does not come to its end.
        """
        state = self._settle("waiting to restore")
        previous = intent.previous_config_name
        if intent.strategy == "none":
            return f"endpoint {self._name} was left as it is: what it ran before is not known"
        if previous is None:
            if state is not None:
                self._delete()
            return f"there was no endpoint {self._name} before, so it was deleted: nothing is live"
        if state is not None and state.status == "Failed":
            self._delete()  # the only thing a failed endpoint can do
            state = None
        if state is None:
            self._confirm()
            self._api.create_endpoint(self._plan, previous)
        elif (state.status, state.config_name) != ("InService", previous):
            self._put_back(state, previous)
        state = self._settle(f"restoring {previous}")
        if state is None or (state.status, state.config_name) != ("InService", previous):
            status = "gone" if state is None else f"{state.status} with {state.config_name}"
            kind = StuckError if state is not None and state.status == STUCK else RolloutError
            raise kind(f"restoring {previous} failed: the endpoint is {status}")
        live = {variant.name: variant.weight for variant in state.variants}
        if len(live) > 1 and live.keys() == intent.previous_weights.keys() and live != intent.previous_weights:
            self._set_weights(intent.previous_weights)
        return f"endpoint {self._name} runs {previous} again"

    def _put_back(self, state: EndpointState, previous: str) -> None:
        scaled = any(variant.name == VARIANT for variant in state.variants) and self._api.is_scaled(self._name, VARIANT)
        self._confirm()
        try:
            self._api.update_endpoint(self._name, previous, keep_counts=scaled)
        except Exception as error:
            if state.status != STUCK:
                raise
            raise StuckError(
                f"endpoint {self._name} is {STUCK} ({state.failure_reason or 'no reason given'}): some instances run "
                f"the old configuration and some the new one, and it cannot be updated ({error}). It does not mend "
                "itself: see the runbook endpoint-rollback"
            ) from error

    def _finish(self) -> EndpointState:
        """Wait for the change to end and return the state of an endpoint that runs the planned configuration."""
        state = self._settle(f"changing to {self._plan.config_name}")
        if state is None:
            raise RolloutError("the endpoint was deleted while it was changed")
        reason = state.failure_reason or "SageMaker gives no reason"
        if state.status != "InService":
            raise RolloutError(f"the endpoint is {state.status}: {reason}")
        # An update that SageMaker rolled back ends InService too, with the old configuration.
        if state.config_name != self._plan.config_name:
            raise RolloutError(f"SageMaker rolled the update back to {state.config_name}: {reason}")
        return state

    def _set_weights(self, weights: Mapping[str, float]) -> None:
        log.info("endpoint %s: weights %s", self._name, weights)
        self._confirm()
        self._api.update_weights(self._name, weights)
        self._settle("changing weights")

    def _delete(self) -> None:
        self._confirm()
        self._api.delete_endpoint(self._name)
        state = self._settle("deleting")
        if state is not None:
            raise RolloutError(f"the endpoint could not be deleted: it is {state.status}")

    def _settle(self, what: str) -> EndpointState | None:
        """Wait until the endpoint is on its way no more, and return its state."""
        started = time.monotonic()
        pause, reported_status, reported_at = 0.1, "", started
        while True:
            state = self._api.endpoint(self._name)
            if state is None or state.status not in IN_PROGRESS:
                return state
            now = time.monotonic()
            if state.status != reported_status or now - reported_at >= 30:
                log.info("endpoint %s: %s, %s (%.0f s)", self._name, state.status, what, now - started)
                reported_status, reported_at = state.status, now
            if now - started > self._limit:
                raise TimeoutError(f"endpoint {self._name} is still {state.status} after {self._limit} s ({what})")
            time.sleep(pause)
            pause = min(pause * 1.3, self._longest_pause)
