"""Step ``deploy``: model registry -> S3 -> SageMaker -> smoke test -> alias ``champion``, in this order.

Everything up to the change of the endpoint can be done again and changes nothing that is live: an error there
is tried again. Any error after it puts the endpoint back as it was, and ends the step for good.
"""

from __future__ import annotations

import logging
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from deployer.package import find_model, pack
from deployer.plan import Plan, make_plan
from deployer.registry import CHAMPION, Registry
from deployer.rollout import Intent, Rollout
from deployer.sagemaker_api import SageMaker
from deployer.smoke import check_answer, make_request
from mlplatform import storage
from mlplatform.config import RunConfig
from mlplatform.results import DeployResult, Examples
from mlplatform.steps import Refused, StepContext

log = logging.getLogger(__name__)


def run(context: StepContext) -> DeployResult:
    """Put the run's candidate live."""
    config = context.config
    plan = make_plan(config)
    examples = _read_examples(config)
    registry = Registry(config.tracking_uri, plan.registered_model)
    champion = registry.version_of(CHAMPION)
    _publish(registry, plan)
    sagemaker = SageMaker(plan.region)
    sagemaker.ensure_model(plan)
    sagemaker.ensure_config(plan)
    intent_uri = storage.join(context.output, "intent.json")
    rollout = Rollout(
        sagemaker,
        plan,
        read_intent=lambda: storage.try_read_document(intent_uri, Intent),
        write_intent=lambda intent: _write(intent_uri, intent),
    )
    rollout.start()
    try:
        rollout.finish()
        difference = check_answer(
            sagemaker.invoke(plan.endpoint_name, make_request(examples)),
            examples,
            plan.version,
            plan.model_digest,
            config.model.task,
        )
        log.info("smoke test passed: %d rows, largest difference %.2g", len(examples.examples), difference)
        tags = {"endpoint": plan.endpoint_name, "endpoint_config": plan.config_name, "deployment": "live"}
        registry.tag(plan.version, tags)
        registry.promote(plan.version, champion)
    except TimeoutError:
        raise  # it is still under way and cannot be stopped; the next attempt waits for it
    except Exception as error:
        raise _give_up(error, plan, champion, rollout, registry) from error
    return DeployResult(
        run_key=config.run_key,
        started_at=context.started_at,
        finished_at=datetime.now(UTC),
        endpoint_name=plan.endpoint_name,
        endpoint_config_name=plan.config_name,
        model_version=plan.version,
        previous_version=champion if champion != plan.version else None,
        smoke_rows=len(examples.examples),
        smoke_max_difference=difference,
    )


def _read_examples(config: RunConfig) -> Examples:
    assert config.deployment is not None  # make_plan has looked
    try:
        examples = storage.read_document(config.deployment.examples_uri, Examples)
    except storage.StorageError as error:
        raise Refused(str(error)) from None
    if not examples.examples:
        raise Refused(f"{config.deployment.examples_uri}: has no examples; a smoke test needs at least one")
    return examples


def _publish(registry: Registry, plan: Plan) -> None:
    """Put the version's files where SageMaker fetches them from."""
    with tempfile.TemporaryDirectory() as scratch:
        uri = f"models:/{plan.registered_model}/{plan.version}"
        model = find_model(registry.download(plan.version, Path(scratch) / "model"), plan.model_digest, uri)
        archive = pack(model, Path(scratch) / "model.tar.gz")
        content = archive.read_bytes()
        if storage.try_read_bytes(plan.model_data_url) != content:
            storage.write_bytes(plan.model_data_url, content, content_type="application/gzip")
        log.info("%s is at %s, %d bytes", uri, plan.model_data_url, len(content))


def _write(uri: str, intent: Intent) -> None:
    storage.write_document(uri, intent)


def _give_up(error: Exception, plan: Plan, champion: str | None, rollout: Rollout, registry: Registry) -> Exception:
    """Put back what was live and return the error that says so."""
    problem = f"version {plan.version} was not deployed: {' '.join(str(error).split())}"
    log.error("%s", problem)
    if champion == plan.version and not rollout.changed:
        # The champion was live before this run; what was there before the champion is not what should be now.
        return RuntimeError(f"champion {plan.version} on endpoint {plan.endpoint_name}: {error}")
    try:
        now = rollout.restore()
    except Exception as second:
        return RuntimeError(f"{problem}. Putting back what was live failed too: {second}")
    try:
        registry.tag(plan.version, {"deployment": "rolled-back"})
    except Exception as second:  # worth less than the message
        log.warning("could not tag version %s: %s", plan.version, second)
    who = f"the champion is still version {champion}" if champion else "there is no champion"
    return Refused(f"{problem}. Now {now}; {who}", kind="rolled-back")
