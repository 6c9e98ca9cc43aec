"""What an earlier release has approved and deployed can be deployed again, and gone back to."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mlplatform import storage
from mlplatform.deployment import requests, tasks
from mlplatform.documents.deployment import DeploymentRequest
from mlplatform.documents.evaluation import EvaluateResult
from mlplatform.documents.monitoring import MonitorResult
from mlplatform.documents.paths import DeploymentPaths
from mlplatform.documents.results import StepFailure
from mlplatform.documents.run import RunConfig
from mlplatform.errors import NonRetryableError
from mlplatform.monitoring import retraining, windows
from mlplatform.promotion import audit
from tests.unit.golden.conftest import World

PARAMS: dict[str, Any] = {"reason": "", "force": False, "challenger": None, "challenger_weight": 0.1}


def written_requests(world: World) -> dict[str, DeploymentRequest]:
    """Return what was asked for, by prefix."""
    return {
        uri.removesuffix("/request.json"): storage.read_document(uri, DeploymentRequest)
        for uri in world.golden.matching("data/deployments/*/*/request.json")
    }


def approved(world: World) -> list[dict[str, Any]]:
    """Return the dataset's approved versions, as the registry has them."""
    versions = world.golden.registered()["versions"]
    return [version for version in versions if version["tags"].get("approval") == "approved"]


def check(world: World, prefix: str, version: dict[str, Any], purpose: str) -> RunConfig:
    """Have a deployment prepared, and check that its step gets what belongs to a version."""
    step = tasks.prepare(world.settings, prefix)
    config = storage.read_document(step["config"], RunConfig)
    evaluated = storage.read_document(f"{version['tags']['run_prefix']}/evaluate/config.json", RunConfig)
    assert step["input"] == f"{version['tags']['run_prefix']}/evaluate"
    assert config.candidate == evaluated.candidate
    assert config.candidate is not None
    assert (config.candidate.version, config.candidate.run_id) == (version["version"], version["run_id"])
    assert (config.model, config.policy, config.run_key) == (evaluated.model, evaluated.policy, evaluated.run_key)
    assert config.deployment is not None
    assert config.deployment.purpose == purpose
    examples = storage.read_document(f"{step['input']}/result.json", EvaluateResult).examples_uri
    assert config.deployment.examples_uri == examples
    assert storage.try_read_bytes(examples) is not None
    return config


def test_every_approved_version_can_be_deployed_again(world: World) -> None:
    assert len(approved(world)) == 2
    for version in approved(world):
        params = {**PARAMS, "dataset": world.golden.dataset, "version": version["version"]}
        (prefix,) = requests.requested(world.settings, [], params, "deploy__titanic/again", "jane")
        check(world, prefix, version, "deploy")


def test_an_experiment_of_two_old_versions_can_be_made(world: World) -> None:
    one, two = approved(world)
    params = {**PARAMS, "dataset": world.golden.dataset, "version": two["version"], "challenger": one["version"]}
    (prefix,) = requests.requested(world.settings, [], params, "deploy__titanic/experiment", "jane")
    config = check(world, prefix, two, "deploy")
    assert config.deployment is not None
    experiment = config.deployment.experiment
    assert experiment is not None
    assert (experiment.version, experiment.model_digest) == (one["version"], one["tags"]["model_digest"])


def test_an_approval_that_waited_for_the_upgrade_is_deployed(world: World) -> None:
    dataset = world.golden.dataset
    events = [event["extra"] for event in world.golden.read("asset_events.json")]
    extras = [extra for extra in events if extra["dataset"] == dataset]
    # The last one is of the version that was compared with the present champion.
    (prefix,) = requests.requested(world.settings, extras, {}, "deploy__titanic/event", "")
    check(world, prefix, approved(world)[-1], "deploy")


def test_a_key_that_a_later_release_adds_to_an_event_is_passed_over(world: World) -> None:
    extra = world.golden.read("asset_events.json")[0]["extra"]
    later = [{**extra, "of_a_later_release": 1}]
    assert requests.requested(world.settings, later, {}, "deploy__titanic/later", "")


def test_the_rejected_version_cannot_be_deployed(world: World) -> None:
    versions = world.golden.registered()["versions"]
    (rejected,) = (version for version in versions if version["tags"].get("approval") == "rejected")
    params = {**PARAMS, "dataset": world.golden.dataset, "version": rejected["version"]}
    (prefix,) = requests.requested(world.settings, [], params, "deploy__titanic/rejected", "jane")
    with pytest.raises(NonRetryableError, match=r"is not approved \(tag approval: rejected\)"):
        tasks.prepare(world.settings, prefix)


def test_one_step_back(world: World) -> None:
    aliases = world.golden.registered()["aliases"]
    (previous,) = (version for version in approved(world) if version["version"] == aliases["previous"])
    prefix = requests.rollback_requested(world.settings, world.golden.dataset, "worse", "rollback__titanic/x", "jane")
    config = check(world, prefix, previous, "rollback")
    assert storage.read_document(f"{prefix}/request.json", DeploymentRequest).champion == aliases["champion"]
    assert config.deployment is not None
    assert config.deployment.endpoint_name == previous["tags"]["endpoint"]


def test_a_deployment_tried_again_finds_its_documents(world: World) -> None:
    for prefix, request in written_requests(world).items():
        what = "rollback" if request.purpose == "rollback" else f"v{request.model.version}"
        paths = DeploymentPaths.of(world.settings, request.model.dataset, what, request.dag_run)
        assert paths.prefix == prefix


def test_what_came_of_a_deployment_is_told_again_in_the_same_words(world: World) -> None:
    before, told = world.keys("artifacts"), set()
    for prefix, request in written_requests(world).items():
        if storage.try_read_bytes(f"{prefix}/result.json") is not None:
            message = tasks.conclude(world.settings, prefix)
        else:
            message = tasks.failed(world.settings, prefix, None)
            assert storage.read_document(f"{prefix}/error.json", StepFailure).message in message.text
        assert f"version {request.model.version}" in message.text.lower()
        told.add(message.event)
    assert told == {"deployed", "rolled-back", "failed"}
    assert world.keys("artifacts") == before, "the audit log has it already"


def test_a_champion_of_an_earlier_release_is_watched(world: World) -> None:
    golden, settings = world.golden, world.settings
    aliases = golden.registered()["aliases"]
    (champion,) = (version for version in approved(world) if version["version"] == aliases["champion"])
    now = audit.entries(settings, golden.dataset)[-1].at + timedelta(hours=1)
    step = windows.prepare(settings, golden.dataset, now, f"monitor__{golden.dataset}/again")
    assert step is not None
    config = storage.read_document(step["config"], RunConfig)
    trained = storage.read_document(f"{champion['tags']['run_prefix']}/evaluate/config.json", RunConfig)
    assert (config.model, config.family, config.candidate) == (trained.model, trained.family, trained.candidate)
    watch = config.monitoring
    assert watch is not None
    assert watch.unnamed_version is None, "the audit log has deployments within the window"
    captured = golden.matching("data/capture/**/*.jsonl")
    assert captured
    assert all(uri.startswith(f"{step['input']}/") for uri in captured)
    assert retraining.parameters(step["config"]) == {
        "family": champion["tags"]["family"],
        "wait_for_new_data": False,
    }


def test_an_earlier_window_is_concluded_and_its_retraining_is_not_asked_for_twice(world: World) -> None:
    golden = world.golden
    (uri,) = golden.matching("data/monitoring/*/*/result.json")
    verdict, message = windows.conclude(world.settings, golden.dataset, uri.removesuffix("/result.json"))
    result = storage.read_document(uri, MonitorResult)
    assert verdict == result.verdict
    assert message is not None
    assert all(reason in message.text for reason in verdict.reasons)
    limits = world.settings.monitoring.model_copy(update={"action": "retrain"})
    settings = world.settings.model_copy(update={"monitoring": limits})
    why = retraining.claim(settings, golden.dataset, verdict, f"monitor__{golden.dataset}/again", result.end)
    assert why is not None
    assert why.startswith("one was asked for at")
