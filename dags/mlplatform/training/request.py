"""What a DAG run was asked to do, and whether the configuration can do it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from mlplatform.config import loading
from mlplatform.config.base import Device, Finite, Strict
from mlplatform.config.dataset import ModelConfig
from mlplatform.config.environment import Search, Settings, Training
from mlplatform.config.family import FamilySpec
from mlplatform.config.loading import explain, load_model, merge
from mlplatform.config.policy import Policy
from mlplatform.errors import ConfigError
from mlplatform.training import placement, search


class TrainingRequest(Strict):
    """The parameters of a DAG run, as the trigger form gives them."""

    dataset: str
    family: str
    trials: int
    search: Literal["grid", "random", "bayesian"]
    device: Device
    seed: int
    wait_for_new_data: bool
    minimum_quality: Finite | None = None
    minimum_improvement: Finite | None = None
    ask_a_person: bool = False

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> TrainingRequest:
        """Read the parameters of a run.

        Raises:
            ConfigError: one is missing or of the wrong type.
        """
        chosen = {name: params[name] for name in cls.model_fields if name in params}
        try:
            return cls.model_validate(chosen)
        except ValidationError as error:
            raise explain("parameters of the run", error, chosen) from None


@dataclass(frozen=True)
class CheckedRequest:
    """A request that can be done, and the configuration it is about."""

    request: TrainingRequest
    model: ModelConfig
    family: FamilySpec
    search: Search
    """As the environment's settings have it, by the run's method."""
    policy: Policy
    """Of the dataset, under what the environment and the run say instead."""


def check_request(settings: Settings, params: Mapping[str, Any]) -> CheckedRequest:
    """Check a run's parameters against the configuration, so that nothing waits or starts that cannot end well.

    Raises:
        ConfigError: the dataset's or the family's file is wrong, or something was asked for that they, or the
            environment, cannot do.
    """
    request = TrainingRequest.of(params)
    model = load_model(request.dataset)
    if request.family not in model.families:
        raise ConfigError(
            f"family: {request.family!r} is not configured for the dataset {request.dataset!r} "
            f"(config/models/{request.dataset}.yaml: families has {', '.join(sorted(model.families))})"
        )
    family = loading.load_family(request.family)
    training = settings.training
    chosen = training.search.model_copy(update={"method": request.search})
    _check_search(request, model, family, settings, chosen)
    _check_device(request, family, settings)
    if training.pods_per_trial > 1:
        _check_distributed(family, training)
    return CheckedRequest(request, model, family, chosen, _policy(request, model, settings))


def _policy(request: TrainingRequest, model: ModelConfig, settings: Settings) -> Policy:
    """Lay the environment's policy over the dataset's, and the run's thresholds over both.

    `minimum_quality` holds for a first model too. `minimum_improvement` above 0 asks for an improvement, at 0 or below
    it for non-inferiority: a tie is enough, or so much may be lost, by any category as well. A run can ask for a
    person's approval where the policy does not, but not do without one.
    """
    source = f"config/models/{model.name}.yaml and config/{settings.environment}.yaml, with the run's parameters"
    content = merge(model.policy.model_dump(exclude_unset=True), settings.policy.model_dump(exclude_unset=True))
    if request.minimum_quality is not None:
        chosen = {"minimum_quality": request.minimum_quality, "cold_start": {"minimum_quality": None}}
        content = merge(content, chosen)
    if (least := request.minimum_improvement) is not None:
        kind = "improvement" if least > 0 else "non-inferiority"
        content = merge(content, {"comparison": {"kind": kind, "margin": abs(least)}})
        own = (content.get("slices") or {}).get("maximum_loss")
        if own is not None and own < -least:
            content = merge(content, {"slices": {"maximum_loss": None}})
    if request.ask_a_person:
        content = merge(content, {"approval": "manual", "cold_start": {"approval": "manual"}})
    try:
        policy = Policy.model_validate(content)
    except ValidationError as error:
        raise explain(f"{source}: policy", error, content) from None
    try:
        policy.check(model.metric)
    except ValueError as error:
        raise ConfigError(f"{source}: policy.{error}") from None
    return policy


def _check_search(
    request: TrainingRequest, model: ModelConfig, family: FamilySpec, settings: Settings, chosen: Search
) -> None:
    if not 1 <= request.trials <= chosen.maximum_trials:
        raise ConfigError(
            f"trials: must be from 1 to {chosen.maximum_trials}, training.search.maximum_trials of the environment "
            f"{settings.environment} (got {request.trials})"
        )
    needs = {"search: 'bayesian'": chosen.method == "bayesian", "training.search.pruning": chosen.pruning}
    for what, needed in needs.items():
        if needed and settings.training.study_database is None:
            raise ConfigError(
                f"{what} needs a database for what trials learn of each other; the environment "
                f"{settings.environment} has no training.study_database"
            )
    if chosen.method == "grid":
        space = loading.search_space(model, family)
        search.check_grid(loading.search_source(model, family), space, request.trials)


def _check_distributed(family: FamilySpec, training: Training) -> None:
    if not family.distributed:
        able = [name for name in loading.family_names() if loading.load_family(name).distributed]
        raise ConfigError(
            f"training.pods_per_trial: a trial of the family {family.name} cannot train over "
            f"{training.pods_per_trial} pods (config/families/{family.name}.yaml: distributed); set it to 1, or take "
            f"a family that can: {', '.join(able) or 'there is none'}"
        )
    if training.search.trials_per_pod > 1:
        raise ConfigError(
            f"training.search.trials_per_pod: {training.search.trials_per_pod} trials cannot share a pod where one "
            f"trains over {training.pods_per_trial} (training.pods_per_trial); set one of the two to 1"
        )


def _check_device(request: TrainingRequest, family: FamilySpec, settings: Settings) -> None:
    if request.device != "cuda" or placement.uses_gpu(settings, family, request.device):
        return
    if "cuda" not in family.devices:
        raise ConfigError(
            f"device: 'cuda' is not for the family {family.name}, which computes on {', '.join(family.devices)} "
            f"(config/families/{family.name}.yaml: devices); take auto or cpu"
        )
    why = "steps.train.gpus is 0" if settings.kubernetes.gpus else "its cluster has no GPU nodes, docs/training.md"
    raise ConfigError(
        f"device: 'cuda' needs a GPU, and the training pods of the environment {settings.environment} have none "
        f"({why}); take auto or cpu"
    )
