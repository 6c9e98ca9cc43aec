"""Changes what an endpoint runs, and changes it back.

Nothing can be changed while an endpoint is on its way, so a rollout waits first. What was live is written
down before anything is changed: a deployer that is killed can be run again, and still knows what to put back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from deployer.plan import Plan
from deployer.sagemaker_api import EndpointState
from mlplatform.config import Strict
from mlplatform.steps import Refused

log = logging.getLogger(__name__)

IN_PROGRESS = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
PROVISIONING_SECONDS = 1800
"""Time for instances, image and model, on top of what the container may take to start."""


class Intent(Strict):
    """``intent.json``: what is to be live, and what was before (None: there was no endpoint)."""

    version: int = 1
    endpoint_name: str
    config_name: str
    previous_config_name: str | None


class RolloutError(Exception):
    """The endpoint does not run what was asked for; the message says why."""


class Api(Protocol):
    """The part of `SageMaker` used here."""

    def endpoint(self, name: str) -> EndpointState | None:
        """Return an endpoint's state."""

    def create_endpoint(self, plan: Plan, config_name: str) -> None:
        """Ask for a new endpoint."""

    def update_endpoint(self, name: str, config_name: str) -> None:
        """Ask for another configuration."""

    def delete_endpoint(self, name: str) -> None:
        """Ask an endpoint to go."""


class Rollout:
    """One change of one endpoint."""

    def __init__(
        self,
        api: Api,
        plan: Plan,
        read_intent: Callable[[], Intent | None],
        write_intent: Callable[[Intent], None],
        *,
        longest_pause: float = 15.0,
    ) -> None:
        self._api = api
        self._plan = plan
        self._name = plan.endpoint_name
        self._read_intent = read_intent
        self._write_intent = write_intent
        self._longest_pause = longest_pause
        self.previous_config: str | None = None
        self.reversible = False
        """Whether it is known what was there before the change."""
        self.changed = False
        """Whether this process asked for a change."""

    def start(self) -> None:
        """Ask for the planned configuration, unless that is what the endpoint runs already.

        Raises:
            Refused: the endpoint is in a state that a person has to look at.
            TimeoutError: another change does not come to its end.
        """
        state = self._settle("another change is under way")
        intent = self._read_intent()
        if state is not None and state.status == "InService" and state.config_name == self._plan.config_name:
            log.info("endpoint %s runs %s already", self._name, self._plan.config_name)
            if intent is not None and intent.config_name == self._plan.config_name:
                self.previous_config, self.reversible = intent.previous_config_name, True
            return
        if state is not None and state.status == "Failed":
            log.warning("endpoint %s had failed (%s): deleting it", self._name, state.failure_reason)
            self._delete()
            state = None
        if state is None:
            self._note(None)
            log.info("creating endpoint %s with %s", self._name, self._plan.config_name)
            self._api.create_endpoint(self._plan, self._plan.config_name)
            self.changed = True
        elif state.status == "InService":
            self._note(state.config_name)
            log.info("updating endpoint %s from %s to %s", self._name, state.config_name, self._plan.config_name)
            self._api.update_endpoint(self._name, self._plan.config_name)
            self.changed = True
        else:
            raise Refused(
                f"endpoint {self._name} is {state.status} ({state.failure_reason or 'no reason given'}); nothing was "
                "changed: repair or delete it, then run the deployment again",
                kind="bad-config",
            )

    def finish(self) -> None:
        """Wait for the change to end.

        Raises:
            RolloutError: it failed, or SageMaker rolled it back.
            TimeoutError: it does not come to its end.
        """
        state = self._settle(f"changing to {self._plan.config_name}")
        if state is None:
            raise RolloutError("the endpoint was deleted while it was changed")
        reason = state.failure_reason or "SageMaker gives no reason"
        if state.status != "InService":
            raise RolloutError(f"the endpoint is {state.status}: {reason}")
        # An update that SageMaker rolled back ends InService too, with the old configuration.
        if state.config_name != self._plan.config_name:
            raise RolloutError(f"SageMaker rolled the update back to {state.config_name}: {reason}")

    def restore(self) -> str:
        """Put back what was there before, wait for it, and return a sentence that says what is live now.

        Raises:
            RolloutError: that did not work either.
            TimeoutError: it does not come to its end.
        """
        if not self.reversible:
            return f"endpoint {self._name} was left as it is: what it ran before is not known"
        state = self._settle("waiting to restore")
        previous = self.previous_config
        if previous is None:
            if state is not None:
                self._delete()
            return f"there was no endpoint {self._name} before, so it was deleted: nothing is live"
        if state is not None and state.status == "Failed":
            self._delete()  # the only thing a failed endpoint can do
            state = None
        if state is None:
            self._api.create_endpoint(self._plan, previous)
        elif (state.status, state.config_name) != ("InService", previous):
            self._api.update_endpoint(self._name, previous)
        state = self._settle(f"restoring {previous}")
        if state is None or (state.status, state.config_name) != ("InService", previous):
            raise RolloutError(f"restoring {previous} failed: the endpoint is {state}")
        return f"endpoint {self._name} runs {previous} again"

    def _note(self, previous: str | None) -> None:
        self.previous_config, self.reversible = previous, True
        self._write_intent(
            Intent(endpoint_name=self._name, config_name=self._plan.config_name, previous_config_name=previous)
        )

    def _delete(self) -> None:
        self._api.delete_endpoint(self._name)
        state = self._settle("deleting")
        if state is not None:
            raise RolloutError(f"the endpoint could not be deleted: it is {state.status}")

    def _settle(self, what: str) -> EndpointState | None:
        """Wait until the endpoint is on its way no more, and return its state."""
        started = time.monotonic()
        limit = self._plan.startup_timeout_seconds + PROVISIONING_SECONDS
        pause, reported_status, reported_at = 0.1, "", started
        while True:
            state = self._api.endpoint(self._name)
            if state is None or state.status not in IN_PROGRESS:
                return state
            now = time.monotonic()
            if state.status != reported_status or now - reported_at >= 30:
                log.info("endpoint %s: %s, %s (%.0f s)", self._name, state.status, what, now - started)
                reported_status, reported_at = state.status, now
            if now - started > limit:
                raise TimeoutError(f"endpoint {self._name} is still {state.status} after {limit} s ({what})")
            time.sleep(pause)
            pause = min(pause * 1.3, self._longest_pause)
