"""Step ``deploy``: model registry -> S3 -> SageMaker -> smoke test -> alias ``champion``, in this order.

Everything up to the change of the endpoint can be done again and changes nothing that is live: an error there
is tried again. Any error after it puts the endpoint back as it was, and ends the step for good. Once the champion
has moved only notes are left to write, and an error is tried again.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from deployer.cleanup import clean_up
from deployer.package import find_model, pack
from deployer.plan import VARIANT, Plan, Variant, made_for, make_plan
from deployer.registry import DEPLOYMENT, Registry
from deployer.rollout import Api, Intent, Rollout, StuckError
from deployer.sagemaker_api import EndpointState, SageMaker
from deployer.smoke import check_answer, make_request
from deployer.strategy import Strategy, check_alarms, choose
from deployer.verify import checks_made, differences, weights_to_change
from mlplatform.deployment.lock import DeploymentLock
from mlplatform.documents.deployment import DeployResult, LiveVariant
from mlplatform.documents.evaluation import Examples
from mlplatform.documents.run import Deployment, RunConfig
from mlplatform.errors import LockLostError, NewerReleaseError, NonRetryableError, StorageError
from mlplatform.promotion.registry import CHAMPION, PREVIOUS
from mlplatform.steps import StepContext
from mlplatform.storage import (
    join,
    read_document,
    split_uri,
    try_read_bytes,
    try_read_document,
    write_bytes,
    write_document,
)

log = logging.getLogger(__name__)


def run(context: StepContext) -> DeployResult:
    """Put the run's candidate live, or put the previous version back."""
    plan = make_plan(context.config)
    bucket, _ = split_uri(context.output)
    # Not the DAG run: two deployments of one training's model are two.
    uri = f"s3://{bucket}/deployments/{context.config.model.name}/lock.json"
    with DeploymentLock(uri, context.output) as lock:
        registry = Registry(context.config.tracking_uri, plan.registered_model)
        return _Deployment(context, lock, SageMaker(plan.region), registry).run(plan)


class _Deployment:
    """One deployment, while it has the lock."""

    def __init__(self, context: StepContext, lock: DeploymentLock, api: Api, registry: Registry) -> None:
        assert context.config.deployment is not None  # make_plan has looked
        self._context = context
        self._config: RunConfig = context.config
        self._deployment: Deployment = context.config.deployment
        self._lock = lock
        self._api = api
        self._registry = registry
        self._intent_uri = join(context.output, "intent.json")

    def run(self, plan: Plan) -> DeployResult:
        if self._deployment.purpose == "rollback":
            plan = self._reused(plan)
        examples = {variant.name: _read_examples(variant.examples_uri) for variant in plan.variants}
        rollout = Rollout(self._api, plan, self._lock.confirm, maximum_seconds=self._deployment.rollout.maximum_seconds)
        state = rollout.look()
        intent, strategy = self._intend(plan, state)
        check_alarms(strategy, self._api.alarm_states(strategy.alarms), self._deployment.rollout.bake_seconds)
        self._prepare(plan)
        write_document(self._intent_uri, intent)
        rollout.start(state, strategy)
        try:
            rollout.finish()
            rollout.verify()
            verified_at = datetime.now(UTC)
            variants = {variant.name: self._smoke(plan, variant, examples) for variant in plan.variants}
            self._lock.confirm()
            self._registry.promote(plan.version, intent.champion)
        except (TimeoutError, LockLostError):
            raise  # it is still under way and cannot be stopped, or another one's business: the next attempt waits
        except Exception as error:
            raise self._give_up(error, plan, intent, rollout) from error
        self._note(plan, intent)
        smoked = variants[VARIANT]
        return DeployResult(
            purpose=self._deployment.purpose,
            run_key=self._config.run_key,
            started_at=self._context.started_at,
            finished_at=datetime.now(UTC),
            endpoint_name=plan.endpoint_name,
            endpoint_config_name=plan.config_name,
            previous_endpoint_config_name=intent.previous_config_name if intent.changes_configuration else None,
            model_version=plan.version,
            previous_version=intent.champion if intent.champion != plan.version else None,
            strategy=intent.strategy,
            strategy_reason=intent.strategy_reason,
            seconds=(verified_at - intent.started_at).total_seconds() if intent.strategy != "none" else 0.0,
            alarms=intent.alarms,
            checks=[
                *checks_made(plan),
                *(f"variant {name}: {found.smoke_rows} examples answered" for name, found in variants.items()),
            ],
            variants=variants,
            smoke_rows=smoked.smoke_rows,
            smoke_max_difference=smoked.smoke_max_difference or 0.0,
        )

    def _reused(self, plan: Plan) -> Plan:
        """Return the plan with the configuration that the version ran with before, where that still exists."""
        tags = self._registry.tags(plan.version)
        name = tags.get("endpoint_config", "")
        config = self._api.describe_config(name) if made_for(plan.endpoint_name, name) else None
        model = self._api.describe_model(config["ProductionVariants"][0]["ModelName"]) if config else None
        reused = plan.reuse(name, config, model) if config else None
        if reused is None:
            log.info("version %s has no endpoint configuration any more; it is made anew", plan.version)
        return reused or plan

    def _intend(self, plan: Plan, state: EndpointState | None) -> tuple[Intent, Strategy]:
        """Return what is about to be done, what was there before, and how; an earlier attempt's note is believed.

        Raises:
            NonRetryableError: what shall be rolled back to is not the previous version, or the note cannot be read.
        """
        champion, previous = (self._registry.version_of(alias) for alias in (CHAMPION, PREVIOUS))
        failed = state is not None and state.status == "Failed"
        live = None if state is None or failed else state.config_name
        noted = _read_note(self._intent_uri)
        if noted is not None and not noted.is_of(plan, champion, previous, live):
            noted = None
        if self._deployment.purpose == "rollback" and noted is None and previous != plan.version:
            now = "not set" if previous is None else f"version {previous} now"
            raise NonRetryableError(
                f"version {plan.version} of {plan.registered_model} cannot be rolled back to: the alias `previous` is "
                f"{now}. Start the rollback again"
            )
        if state is None or failed:
            strategy = Strategy("create")
        elif live == plan.config_name:
            strategy = Strategy("weights" if weights_to_change(plan, state) else "none")
        else:
            scaled = self._api.is_scaled(plan.endpoint_name, VARIANT)
            strategy = choose(plan, self._deployment, state, scaled, noted.champion if noted else champion)
        if strategy.reason:
            log.info("all at once: %s", strategy.reason)
        if noted is not None and live == plan.config_name:
            return noted, strategy
        how = {
            "strategy": strategy.name,
            "strategy_reason": strategy.reason,
            "alarms": list(strategy.alarms),
        }
        if noted is not None:
            return noted.model_copy(update=how), strategy
        return (
            Intent(
                started_at=datetime.now(UTC),
                endpoint_name=plan.endpoint_name,
                model_version=plan.version,
                config_name=plan.config_name,
                previous_config_name=live,
                previous_weights={variant.name: variant.weight for variant in state.variants} if state and live else {},
                champion=champion,
                previous=previous,
                strategy=strategy.name,
                strategy_reason=strategy.reason,
                alarms=list(strategy.alarms),
            ),
            strategy,
        )

    def _prepare(self, plan: Plan) -> None:
        """Make the models and the configuration, where they are not there yet.

        Raises:
            NonRetryableError: SageMaker refuses one, or there is another one of its name.
        """
        for variant in plan.variants:
            there = self._api.describe_model(variant.model_name)
            if there is None or self._deployment.purpose == "deploy":
                self._publish(plan, variant)
            if there is None:
                self._api.create_model(plan, variant)
            else:
                _check_same("model", variant.model_name, list(differences(variant.model, there)))
        config = self._api.describe_config(plan.config_name)
        if config is None:
            self._api.create_config(plan)
        else:
            _check_same("endpoint configuration", plan.config_name, list(differences(plan.config, config)))

    def _publish(self, plan: Plan, variant: Variant) -> None:
        """Put the version's files where SageMaker fetches them from."""
        with tempfile.TemporaryDirectory() as scratch:
            uri = f"models:/{plan.registered_model}/{variant.version}"
            files = self._registry.download(variant.version, Path(scratch) / "model")
            archive = pack(find_model(files, variant.model_digest, uri), Path(scratch) / "model.tar.gz")
            content = archive.read_bytes()
            if try_read_bytes(variant.model_data_url) != content:
                write_bytes(variant.model_data_url, content, content_type="application/gzip")
            log.info("%s is at %s, %d bytes", uri, variant.model_data_url, len(content))

    def _smoke(self, plan: Plan, variant: Variant, examples: dict[str, Examples | None]) -> LiveVariant:
        """Ask a variant, and compare its answers with those of the evaluation."""
        own, any_rows = examples[variant.name], examples[VARIANT]
        rows = own or any_rows
        assert rows is not None  # the candidate's examples are demanded
        difference = check_answer(
            self._api.invoke(plan.endpoint_name, variant.name, make_request(rows)),
            rows,
            variant.version,
            variant.model_digest,
            self._config.model.task,
            compare=own is not None,
        )
        log.info(
            "smoke test of %s passed: %d rows, largest difference %s", variant.name, len(rows.examples), difference
        )
        return LiveVariant(
            model_version=variant.version,
            share=variant.weight,
            smoke_rows=len(rows.examples),
            smoke_max_difference=difference,
        )

    def _note(self, plan: Plan, intent: Intent) -> None:
        """Write down what is live now, and remove what nobody goes back to."""
        for variant in plan.variants:
            tags = {"endpoint": plan.endpoint_name, "endpoint_variant": variant.name}
            if variant.name == VARIANT:
                # What a rollback to this version puts back, and tests it with.
                tags |= {"endpoint_config": plan.config_name, "examples_uri": self._deployment.examples_uri}
            self._registry.tag(variant.version, tags)
        rolling_back = self._deployment.purpose == "rollback"
        challenger = plan.challenger.version if plan.challenger else None
        self._registry.mark_live(plan.version, challenger, "rolled-back" if rolling_back else "replaced")
        kept = {plan.config_name, intent.previous_config_name or ""}
        if intent.champion is not None:
            kept.add(self._registry.tags(intent.champion).get("endpoint_config", ""))
        # An endpoint that was there before still has the tags of what it ran then, and of whose it was.
        self._tidy("tag", lambda: self._api.tag_endpoint(plan.endpoint_name, plan.present_tags))
        self._tidy(
            "clean up",
            lambda: clean_up(self._api, plan.endpoint_name, kept, self._deployment.kept_configurations),
        )

    def _tidy(self, what: str, do: Callable[[], object]) -> None:
        """Do what is no part of being live: the next deployment does it too, so an error is a warning."""
        try:
            self._lock.confirm()
            do()
        except LockLostError:
            raise
        except Exception as error:
            log.warning("could not %s: %s", what, error)

    def _give_up(self, error: Exception, plan: Plan, intent: Intent, rollout: Rollout) -> Exception:
        """Put back what was live and return the error that says so."""
        problem = f"version {plan.version} was not deployed: {' '.join(str(error).split()).rstrip('.')}"
        log.error("%s", problem)
        if intent.champion == plan.version and intent.strategy == "none":
            # The champion was live before this run; what was there before the champion is not what should be now.
            return RuntimeError(f"champion {plan.version} on endpoint {plan.endpoint_name}: {error}")
        stuck = False
        try:
            now = rollout.restore(intent)
        except LockLostError as lost:
            return lost
        except StuckError as second:
            stuck, now = True, f"putting back what was live failed too: {second}"
        except Exception as second:
            return RuntimeError(f"{problem}. Putting back what was live failed too: {second}")
        champion = intent.champion
        try:
            self._registry.put_back(champion, intent.previous)
            if self._deployment.purpose == "deploy" and champion != plan.version:
                self._registry.tag(plan.version, {DEPLOYMENT: "rolled-back"})
        except Exception as second:  # worth less than the message
            log.warning("could not put back aliases and tags of version %s: %s", plan.version, second)
        who = f"the champion is still version {champion}" if champion else "there is no champion"
        message = f"{problem}. Now {now}; {who}"
        write_document(self._intent_uri, intent.model_copy(update={"ended": True}))
        return NonRetryableError(message, kind="bad-config" if stuck else "rolled-back")


def _read_note(uri: str) -> Intent | None:
    try:
        return try_read_document(uri, Intent)
    except NewerReleaseError as error:
        raise NonRetryableError(
            f"{error}: the image is older than the attempt that this one goes on with; run `make images`",
            kind="bad-config",
        ) from None
    except StorageError as error:
        raise NonRetryableError(f"{error}; see what is live, and start another deployment", kind="bad-config") from None


def _read_examples(uri: str | None) -> Examples | None:
    if uri is None:
        return None
    try:
        examples = read_document(uri, Examples)
    except (StorageError, ValueError) as error:
        raise NonRetryableError(str(error)) from None
    if not examples.examples:
        raise NonRetryableError(f"{uri}: has no examples; a smoke test needs at least one")
    return examples


def _check_same(kind: str, name: str, found: list[str]) -> None:
    if found:
        raise NonRetryableError(
            f"there is a {kind} {name} with other content ({'; '.join(found)}); delete it and try again",
            kind="bad-config",
        )
