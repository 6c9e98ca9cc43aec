"""What may be deployed, and what is written down about it; the step itself is played by writing its result."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mlplatform.config.environment import Settings
from mlplatform.deployment import requests, tasks
from mlplatform.documents.decisions import ApprovedModel
from mlplatform.documents.deployment import DeployResult
from mlplatform.documents.results import StepFailure
from mlplatform.documents.run import RunConfig
from mlplatform.errors import NonRetryableError, StorageError
from mlplatform.promotion.audit import entries
from mlplatform.storage import list_objects, read_document, try_read_bytes, write_document
from mlplatform.training import approvals
from tests.unit.mlplatform.story import Story

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PARAMS: dict[str, Any] = {
    "dataset": "parcels",
    "version": "1",
    "reason": "",
    "force": False,
    "challenger": None,
    "challenger_weight": 0.1,
}


@pytest.fixture
def story(settings: Settings, s3: Any, fake_registry: Any, make_trained: Any) -> Story:
    """Version 1 was approved by the policy, with no champion before it."""
    story = Story(settings, s3, fake_registry, make_trained)
    story.promoted("a")
    del fake_registry.aliases["champion"]
    return story


def extra(story: Story) -> dict[str, Any]:
    return requests.registered_model(story.settings, "parcels", "parcels", "1").model_dump()


def by_hand(story: Story, **params: Any) -> str:
    (prefix,) = requests.requested(story.settings, [], {**PARAMS, **params}, "deploy__parcels/x", "jane")
    return prefix


def deployed(prefix: str, version: str = "1") -> None:
    result = DeployResult(
        run_key="key",
        started_at=NOW,
        finished_at=NOW,
        endpoint_name="parcels",
        endpoint_config_name="parcels-1",
        model_version=version,
        previous_version=None,
        smoke_rows=5,
        smoke_max_difference=0.0,
    )
    write_document(f"{prefix}/result.json", result)


def test_an_approved_model_is_deployed_and_audited_once(story: Story) -> None:
    (prefix,) = requests.requested(story.settings, [extra(story)], PARAMS, "deploy__parcels/x", "")
    assert prefix.startswith("s3://data/deployments/parcels/v1-")
    step = tasks.prepare(story.settings, prefix)
    config = read_document(step["config"], RunConfig)
    assert config.candidate is not None
    assert config.deployment is not None
    assert (config.candidate.version, config.deployment.purpose) == ("1", "deploy")
    assert step["input"].endswith("/evaluate")
    deployed(prefix)
    message = tasks.conclude(story.settings, prefix)
    assert message.event == "deployed"
    assert "Approved by policy" in message.text
    tasks.conclude(story.settings, prefix)
    assert len(entries(story.settings, "parcels", "deployed", "1")) == 1


@pytest.mark.parametrize(
    ("tag", "value", "why"),
    [
        ("approval", "rejected", r"version 1 of parcels is not approved \(tag approval: rejected\)"),
        ("evaluation_digest", "new", "was evaluated again after its approval"),
        ("model_digest", "new", "the audit log has no approval"),
    ],
)
def test_tags_that_do_not_fit_are_refused(story: Story, tag: str, value: str, why: str) -> None:
    story.registry.versions[0].tags[tag] = value
    prefix = by_hand(story)
    with pytest.raises(NonRetryableError, match=why):
        tasks.prepare(story.settings, prefix)
    assert try_read_bytes(f"{prefix}/config.json") is None
    assert "version 1" in read_document(f"{prefix}/error.json", StepFailure).message


def test_tags_alone_are_no_approval(story: Story) -> None:
    for listed in list(list_objects("s3://artifacts/audit/")):
        story.s3.delete_object(Bucket="artifacts", Key=listed["Key"])
    with pytest.raises(NonRetryableError, match="the audit log has no approval of version 1"):
        tasks.prepare(story.settings, by_hand(story))


@pytest.mark.parametrize("on_approval", [True, False])
def test_a_champion_that_changed_since_stops_an_approval_but_not_a_person(story: Story, on_approval: bool) -> None:
    story.registry.aliases["champion"] = "7"
    if not on_approval:
        assert tasks.prepare(story.settings, by_hand(story))["dataset"] == "parcels"
        return
    (prefix,) = requests.requested(story.settings, [extra(story)], PARAMS, "deploy__parcels/x", "")
    with pytest.raises(NonRetryableError, match="the champion is now version 7, and not the one"):
        tasks.prepare(story.settings, prefix)
    message = tasks.failed(story.settings, prefix, "http://log")
    assert "the champion is now version 7" in message.text
    assert message.lines[-1] == "Log: http://log"
    assert entries(story.settings, "parcels")[-1].kind == "deployment-failed"


def test_a_failure_that_is_told_again_is_one_entry_and_another_failure_another(story: Story) -> None:
    story.registry.aliases["champion"] = "7"
    (prefix,) = requests.requested(story.settings, [extra(story)], PARAMS, "deploy__parcels/x", "")
    with pytest.raises(NonRetryableError):
        tasks.prepare(story.settings, prefix)
    first = tasks.failed(story.settings, prefix, "http://log")
    assert tasks.failed(story.settings, prefix, "http://log") == first, "the task is tried again"
    (line,) = entries(story.settings, "parcels", "deployment-failed", "1")
    assert (line.dag_run, line.details["purpose"]) == ("deploy__parcels/x", "deploy")

    # A person clears the tasks, and it fails for another reason; so does another run.
    story.registry.aliases["champion"] = "8"
    with pytest.raises(NonRetryableError):
        tasks.prepare(story.settings, prefix)
    tasks.failed(story.settings, prefix, None)
    (other,) = requests.requested(story.settings, [extra(story)], PARAMS, "deploy__parcels/y", "")
    with pytest.raises(NonRetryableError):
        tasks.prepare(story.settings, other)
    tasks.failed(story.settings, other, None)
    lines = entries(story.settings, "parcels", "deployment-failed", "1")
    assert [(line.dag_run, "version 8" in line.reason) for line in lines] == [
        ("deploy__parcels/x", False),
        ("deploy__parcels/x", True),
        ("deploy__parcels/y", True),
    ]


def test_of_several_approvals_the_newest_of_each_dataset_counts(story: Story) -> None:
    one = extra(story)
    found = requests.latest_approved([one, {**one, "dataset": "iris"}, {**one, "version": "2"}])
    assert [(model.dataset, model.version) for model in found] == [("parcels", "2"), ("iris", "1")]
    with pytest.raises(NonRetryableError, match=r"does not name a model .*version"):
        requests.latest_approved([{"dataset": "parcels"}])


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"version": None}, "version: name the model version"),
        ({"version": "9"}, "models:/parcels/9: no such version"),
        ({"force": True}, "reason: a version without approval needs one"),
        ({"challenger": "1"}, "cannot be tested against itself"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(story: Story, params: Any, why: str) -> None:
    with pytest.raises(NonRetryableError, match=why):
        by_hand(story, **params)


def test_force_needs_the_environment_s_leave_and_is_audited(story: Story) -> None:
    story.registry.versions[0].tags["approval"] = "rejected"
    prefix = by_hand(story, force=True, reason="only to try it")
    tasks.prepare(story.settings, prefix)
    deployed(prefix)
    tasks.conclude(story.settings, prefix)
    (line,) = entries(story.settings, "parcels", "deployed")
    assert (line.by, line.reason, line.details["forced"]) == ("jane", "only to try it", "true")
    closed = story.settings.approval.model_copy(update={"allow_force": False})
    story.settings = story.settings.model_copy(update={"approval": closed})
    with pytest.raises(NonRetryableError, match="force: not allowed in local"):
        by_hand(story, force=True, reason="only to try it")


def back(story: Story) -> str:
    return requests.rollback_requested(story.settings, "parcels", "too slow", "rollback__parcels/x", "jane")


def test_one_step_back_and_not_two_if_tried_again(story: Story) -> None:
    story.registry.aliases.update(champion="2", previous="1")
    prefix = back(story)
    step = tasks.prepare(story.settings, prefix)
    config = read_document(step["config"], RunConfig)
    assert config.deployment is not None
    assert config.deployment.purpose == "rollback"
    deployed(prefix)
    story.registry.aliases.update(champion="1", previous="2")
    message = tasks.conclude(story.settings, prefix)
    assert message.lines[:2] == [
        "jane took parcels back from version 2 to version 1 on the endpoint parcels.",
        "too slow",
    ]
    assert [line.by for line in entries(story.settings, "parcels", "rolled-back", "1")] == ["jane"]
    assert back(story) == prefix


@pytest.mark.parametrize("aliases", [{}, {"champion": "1"}, {"champion": "1", "previous": "1"}])
def test_without_a_version_before_there_is_no_way_back(story: Story, aliases: dict[str, str]) -> None:
    story.registry.aliases.update(aliases)
    with pytest.raises(NonRetryableError, match="there is no version to go back to"):
        back(story)


def test_a_model_knows_where_it_comes_from(story: Story) -> None:
    assert isinstance(ApprovedModel.model_validate(extra(story)), ApprovedModel)
    del story.registry.versions[0].tags["run_prefix"]
    with pytest.raises(NonRetryableError, match="version 1 of parcels has no tag run_prefix"):
        extra(story)
    with pytest.raises(StorageError, match="no such object"):
        approvals.question(story.settings, "s3://data/runs/parcels/none")
