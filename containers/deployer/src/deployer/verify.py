"""Whether what is live is what was asked for. Pure functions over what SageMaker describes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deployer.plan import Plan
from deployer.sagemaker_api import EndpointState

WEIGHTS = "InitialVariantWeight"
"""Only what a variant begins with; what counts is the endpoint's own weight."""


def differences(wanted: Any, actual: Any, path: str = "") -> Iterator[str]:
    """Yield one sentence for each value that was asked for and is another one; more may be there than was asked for."""
    if isinstance(wanted, Mapping) and isinstance(actual, Mapping):
        for key, value in wanted.items():
            if key != WEIGHTS:
                yield from differences(value, actual.get(key), f"{path}.{key}" if path else key)
    elif isinstance(wanted, list) and isinstance(actual, list) and len(wanted) == len(actual):
        for index, (one, other) in enumerate(zip(wanted, actual, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif wanted != actual:
        yield f"{path} is {actual!r} instead of {wanted!r}"


def unwanted(wanted: Mapping[str, Any], actual: Mapping[str, Any]) -> Iterator[str]:
    """Yield one sentence for each setting that decides what runs, and was not asked for."""
    for key in ("KmsKeyId", "DataCaptureConfig", "VpcConfig"):
        if key not in wanted and actual.get(key):
            yield f"{key} is {actual[key]!r} instead of nothing"


def check_live(
    plan: Plan, state: EndpointState, config: Mapping[str, Any] | None, models: Mapping[str, Mapping[str, Any] | None]
) -> list[str]:
    """Return what is not as planned, nothing where all is.

    Args:
        plan: what was asked for.
        state: of the endpoint.
        config: the live configuration as SageMaker describes it; None where it is gone.
        models: by name, likewise.
    """
    if config is None:
        return [f"the live configuration {state.config_name} does not exist any more"]
    found = [*differences(plan.config, config, "configuration"), *unwanted(plan.config, config)]
    for variant in plan.variants:
        model = models.get(variant.model_name)
        if model is None:
            found.append(f"the model {variant.model_name} does not exist any more")
        else:
            found += [
                *differences(variant.model, model, f"model {variant.model_name}"),
                *unwanted(variant.model, model),
            ]
    live = {variant.name: variant for variant in state.variants}
    if set(live) != set(plan.weights):
        return [*found, f"the variants are {', '.join(sorted(live)) or 'none'}, not {', '.join(sorted(plan.weights))}"]
    for planned in plan.variants:
        running = live[planned.name]
        image = planned.model["PrimaryContainer"]["Image"]
        if running.images and image not in running.images:
            found.append(f"variant {planned.name} runs the image {', '.join(running.images)} instead of {image}")
    found += [
        f"variant {name} has the weight {live[name].weight:g} instead of {plan.weights[name]:g}"
        for name in weights_to_change(plan, state)
    ]
    if "DataCaptureConfig" in plan.config and state.capture is not None:
        wanted = plan.config["DataCaptureConfig"]
        described = {
            "EnableCapture": wanted["EnableCapture"],
            "CurrentSamplingPercentage": wanted["InitialSamplingPercentage"],
            "DestinationS3Uri": wanted["DestinationS3Uri"],
        }
        found += differences(described, state.capture, "capture")
    elif "DataCaptureConfig" in plan.config:
        found.append("the endpoint captures nothing")
    return found


def weights_to_change(plan: Plan, state: EndpointState) -> dict[str, float]:
    """Return the weights that the live variants do not have yet; only shares count, so one variant has any weight."""
    live = {variant.name: variant.weight for variant in state.variants}
    total = sum(live.values())
    if set(live) != set(plan.weights) or len(live) == 1:
        return {}
    wrong = any(total == 0 or abs(live[name] / total - share) > 1e-3 for name, share in plan.weights.items())
    return dict(plan.weights) if wrong else {}


def checks_made(plan: Plan) -> list[str]:
    """Return what `check_live` has found right, for people."""
    made = [f"configuration {plan.config_name}: instances, key, capture, variants and weights as asked for"]
    made += [
        f"variant {variant.name}: version {variant.version}, image, environment, role and network as asked for"
        for variant in plan.variants
    ]
    return made
