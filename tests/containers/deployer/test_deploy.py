"""Whole deployments against the local AWS API with the real serving code, and a real MLflow."""

from __future__ import annotations

import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import ARTIFACTS, IMAGE, ROWS, SavedModel, World

from deployer.registry import CHAMPION, Registry
from deployer.rollout import Rollout
from mlplatform import storage
from mlplatform.config import Candidate
from modelformat import digest


def wait_until(condition: Any, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_cold_start_then_update_then_again(world: World) -> None:
    one, two = world.models
    first = world.register(one)
    prefix = world.prepare(first, one.predictions)
    process = world.start(prefix)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "endpoint cold-start" in output
    assert "Creating" in output
    assert "request_header" not in errors
    result = world.result(prefix)
    assert (result.model_version, result.previous_version, result.smoke_rows) == ("1", None, len(ROWS))
    assert result.smoke_max_difference < 1e-6
    assert world.live() == ("1", pytest.approx(one.predictions))
    assert (world.alias("champion"), world.alias("previous")) == ("1", None)
    arn = world.sagemaker.describe_endpoint_config(EndpointConfigName=result.endpoint_config_name)["EndpointConfigArn"]
    tags = {tag["Key"]: tag["Value"] for tag in world.sagemaker.list_tags(ResourceArn=arn)["Tags"]}
    assert tags["git-sha"] == "0" * 40
    assert tags["model-digest"] == one.digest

    result = world.deploy(two)
    assert (result.model_version, result.previous_version) == ("2", "1")
    assert world.live() == ("2", pytest.approx(two.predictions))
    assert (world.alias("champion"), world.alias("previous")) == ("2", "1")
    tags = world.client.get_model_version(world.name, "2").tags
    assert tags["deployment"] == "live"
    assert tags["endpoint_config"] == result.endpoint_config_name

    # Again, once with the result there and once with it lost: nothing changes.
    before = world.endpoint()
    key = f"models/{world.name}/2/model.tar.gz"
    packed = storage.client().head_object(Bucket=ARTIFACTS, Key=key)["LastModified"]
    again = f"s3://data/{world.name}/2"
    assert world.run(again) == 0
    storage.client().delete_object(Bucket="data", Key=f"{world.name}/2/deploy/result.json")
    assert world.run(again) == 0
    other_run = world.prepare(registered(world, "2", two), two.predictions, run_key="f" * 20)
    assert world.run(other_run) == 0
    assert world.result(other_run).previous_version is None
    after = world.endpoint()
    assert before is not None
    assert after is not None
    assert after["LastModifiedTime"] == before["LastModifiedTime"]
    assert storage.client().head_object(Bucket=ARTIFACTS, Key=key)["LastModified"] == packed
    assert (world.alias("champion"), world.alias("previous")) == ("2", "1")


def registered(world: World, version: str, model: SavedModel) -> Candidate:
    run_id = world.client.get_model_version(world.name, version).run_id
    return Candidate(version=version, run_id=run_id, model_digest=model.digest)


def test_whatever_fails_after_the_update_puts_the_old_model_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = world.models
    first = world.deploy(one)
    candidate = world.register(two)

    def check(prefix: str, *messages: str) -> None:
        assert world.run(prefix) == 64
        failure = world.error(prefix)
        assert failure.kind == "rolled-back"
        for message in (*messages, f"runs {first.endpoint_config_name} again", "the champion is still version 1"):
            assert message in failure.message
        assert world.live() == ("1", pytest.approx(one.predictions))
        assert (world.alias("champion"), world.alias("previous")) == ("1", None)
        assert world.client.get_model_version(world.name, "2").tags["deployment"] == "rolled-back"

    # The model answers something else than it did when it was evaluated:
    check(world.prepare(candidate, one.predictions), "version 2 was not deployed", "row 0: predicted", "expected")
    # SageMaker rolls the update back silently (the endpoint ends InService):
    world.fault("update-fails")
    check(world.prepare(candidate, two.predictions), "SageMaker rolled the update back", "update-fails")
    # The image does not exist:
    missing = world.prepare(candidate, two.predictions, serving_image=IMAGE.replace("000000000001", "ffffffffffff"))
    check(missing, "SageMaker rolled the update back", "does not exist")
    # The new model answers 5xx:
    world.fault("invoke-5xx")
    check(world.prepare(candidate, two.predictions), "version 2 was not deployed", "500")
    # The registry does not take the champion:
    set_alias = Registry._set

    def refuse(registry: Registry, alias: str, version: str | None) -> None:
        if alias == CHAMPION:
            raise ConnectionError("the registry is gone")
        set_alias(registry, alias, version)

    monkeypatch.setattr(Registry, "_set", refuse)
    check(world.prepare(candidate, two.predictions), "the registry is gone")
    monkeypatch.undo()
    # And then it works.
    again = world.prepare(candidate, two.predictions)
    assert world.run(again) == 0
    assert world.live()[0] == "2"
    assert (world.alias("champion"), world.alias("previous")) == ("2", "1")


def test_a_cold_start_that_fails_leaves_nothing(world: World) -> None:
    one, two = world.models
    candidate = world.register(one)
    world.fault("create-fails")
    prefix = world.prepare(candidate, one.predictions)
    assert world.run(prefix) == 64
    failure = world.error(prefix)
    assert failure.kind == "rolled-back"
    for message in ("the endpoint is Failed", "create-fails", "nothing is live", "there is no champion"):
        assert message in failure.message
    assert world.endpoint() is None
    assert world.alias("champion") is None

    prefix = world.prepare(candidate, two.predictions)  # the smoke test fails
    assert world.run(prefix) == 64
    assert "nothing is live" in world.error(prefix).message
    assert world.endpoint() is None


def test_killed_after_create(world: World) -> None:
    one, _ = world.models
    candidate = world.register(one)
    prefix = world.prepare(candidate, one.predictions)
    process = world.start(prefix)
    wait_until(lambda: world.endpoint() is not None)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    assert world.alias("champion") is None
    assert world.run(prefix) == 0
    assert world.live()[0] == "1"
    assert world.alias("champion") == "1"


class Killed(BaseException):
    """Ends the deployer as a signal would: nothing of it runs any more."""


def killed_in(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise Killed

    monkeypatch.setattr(owner, name, die)


def test_killed_during_update_and_then_a_failing_smoke_test(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = world.models
    world.deploy(one)
    prefix = world.prepare(world.register(two), one.predictions)
    killed_in(monkeypatch, Rollout, "finish")
    with pytest.raises(Killed):
        world.run(prefix)
    monkeypatch.undo()
    assert world.run(prefix) == 64  # the second attempt knows what to put back
    assert world.live()[0] == "1"
    assert world.alias("champion") == "1"


def test_killed_before_the_champion_moved(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = world.models
    world.deploy(one)
    prefix = world.prepare(world.register(two), two.predictions)
    killed_in(monkeypatch, Registry, "promote")
    with pytest.raises(Killed):
        world.run(prefix)
    monkeypatch.undo()
    assert (world.alias("champion"), world.live()[0]) == ("1", "2")
    assert world.run(prefix) == 0
    assert (world.alias("champion"), world.alias("previous"), world.live()[0]) == ("2", "1", "2")
    assert world.result(prefix).previous_version == "1"


def test_what_cannot_work_changes_nothing(world: World, tmp_path: Path) -> None:
    one, two = world.models
    candidate = world.register(one)

    def refused(prefix: str, kind: str, message: str) -> None:
        assert world.run(prefix) == 64
        assert world.error(prefix).kind == kind
        assert message in world.error(prefix).message
        assert world.endpoint() is None

    other = candidate.model_copy(update={"model_digest": two.digest})
    refused(world.prepare(other, one.predictions), "bad-input", f"{two.digest} was evaluated")
    missing = candidate.model_copy(update={"version": "99"})
    refused(world.prepare(missing, one.predictions), "bad-input", f"models:/{world.name}/99: no such version")
    wrong_role = world.prepare(candidate, one.predictions, execution_role_arn="not-a-role")
    refused(wrong_role, "bad-config", "ExecutionRoleArn")
    no_examples = world.prepare(candidate, one.predictions)
    storage.write_bytes(f"{no_examples}/examples.json", b'{"examples": []}')
    refused(no_examples, "bad-input", "needs at least one")
    storage.client().delete_object(Bucket="data", Key=no_examples.removeprefix("s3://data/") + "/examples.json")
    refused(no_examples, "bad-input", "no such object")

    changed = tmp_path / "changed"
    shutil.copytree(one.directory, changed)
    (changed / "extra").write_text("not part of the model")
    tampered = world.register(SavedModel(changed, one.digest, one.predictions))
    refused(world.prepare(tampered, one.predictions), "bad-input", digest(changed))


def test_before_anything_changed_an_outage_may_be_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = world.models
    prefix = world.prepare(world.register(one), one.predictions)
    monkeypatch.setattr("deployer.deploy.SageMaker.ensure_config", lambda *_: (_ for _ in ()).throw(OSError("503")))
    with pytest.raises(OSError, match="503"):  # exit code 1
        world.run(prefix)
    assert storage.try_read_bytes(f"{prefix}/deploy/error.json") is None
    monkeypatch.undo()
    assert world.run(prefix) == 0
