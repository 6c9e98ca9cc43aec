"""Whole deployments against the local AWS API with the real serving code, and a real MLflow."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from helpers import ARTIFACTS, IMAGE, ROWS, SavedModel, World

from deployer import variants
from deployer.registry import CHAMPION, Registry
from deployer.rollout import Rollout
from mlplatform.documents.deployment import DeployResult
from mlplatform.documents.run import Candidate
from mlplatform.storage import client, try_read_bytes, write_bytes
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
    live = world.endpoint()
    assert live is not None
    tags = {tag["Key"]: tag["Value"] for tag in world.sagemaker.list_tags(ResourceArn=live["EndpointArn"])["Tags"]}
    assert (tags["model-version"], tags["model-digest"]) == ("2", two.digest)
    assert (tags["dataset"], tags["owner"], tags["ManagedBy"]) == ("flights", "ml-team", "deployer")
    tags = world.client.get_model_version(world.name, "2").tags
    assert tags["deployment"] == "live"
    assert tags["endpoint_config"] == result.endpoint_config_name

    # Again, once with the result there and once with it lost: nothing changes.
    before = world.endpoint()
    key = f"models/{world.name}/2/model.tar.gz"
    packed = client().head_object(Bucket=ARTIFACTS, Key=key)["LastModified"]
    again = f"s3://data/{world.name}/2"
    assert world.run(again) == 0
    client().delete_object(Bucket="data", Key=f"{world.name}/2/deploy/result.json")
    assert world.run(again) == 0
    other_run = world.prepare(registered(world, "2", two), two.predictions, run_key="f" * 20)
    assert world.run(other_run) == 0
    assert world.result(other_run).previous_version is None
    after = world.endpoint()
    assert before is not None
    assert after is not None
    assert after["LastModifiedTime"] == before["LastModifiedTime"]
    assert client().head_object(Bucket=ARTIFACTS, Key=key)["LastModified"] == packed
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
    # SageMaker rolls the update back (the endpoint ends InService), and says why, or does not:
    world.fault("update-fails")
    check(world.prepare(candidate, two.predictions), "SageMaker rolled the update back", "update-fails")
    world.fault("update-rolls-back-silently")
    silent = world.prepare(candidate, two.predictions)
    check(silent, "SageMaker rolled the update back", "SageMaker gives no reason")
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


@contextmanager
def asked_all_the_time(world: World) -> Iterator[Counter[str]]:
    """Ask the endpoint in a thread of its own; what came back is counted, by version or by code of the error."""
    seen, ended = Counter[str](), threading.Event()

    def ask() -> None:
        while not ended.wait(0.01):
            try:
                seen[world.live()[0]] += 1
            except ClientError as error:
                seen[error.response["Error"]["Code"]] += 1

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        yield seen
    finally:
        ended.set()
        asker.join()


def test_a_canary_that_answers_with_errors_is_rolled_back_by_the_alarm(world: World) -> None:
    one, two = world.models
    options: dict[str, Any] = {"instance_count": 2, "alarms": [world.alarm()]}
    rollout: dict[str, Any] = {"strategy": "canary", "bake_seconds": 300}
    first = world.prepare(world.register(one), one.predictions, **options)
    assert world.run(first) == 0
    candidate = world.register(two)
    world.fault("canary-5xx", times=100_000)
    with asked_all_the_time(world) as seen:
        prefix = world.prepare(candidate, two.predictions, rollout=rollout, **options)
        assert world.run(prefix) == 64
    failure = world.error(prefix)
    live = world.result(first).endpoint_config_name
    for message in ("SageMaker rolled the update back", f"{world.name}-rollback-5xx", f"runs {live} again"):
        assert message in failure.message
    assert set(seen) == {"1", "ModelError"}
    assert (world.live()[0], world.alias("champion")) == ("1", "1")
    # With the canary in order the same deployment goes through, and says how.
    world.clear_faults()
    world.wait_for_alarm("OK")
    good = world.prepare(candidate, two.predictions, rollout=rollout, **options)
    with asked_all_the_time(world) as seen:
        assert world.run(good) == 0
    assert (world.result(good).strategy, world.result(good).alarms) == ("canary", options["alarms"])
    assert set(seen) == {"1", "2"}, "not one request is lost"
    # An alarm that is watched for less than it needs to turn red is no alarm.
    hasty = world.prepare(
        registered(world, "1", one), one.predictions, rollout=rollout | {"bake_seconds": 119}, **options
    )
    assert world.run(hasty) == 64
    assert "needs 120 bad seconds to turn red, and is watched for 119 only" in world.error(hasty).message
    assert world.live()[0] == "2"


def test_an_experiment_its_weights_and_its_results(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    one, two = world.models
    first, second = world.register(one), world.register(two)

    def deploy(weight: float | None) -> DeployResult:
        experiment = None if weight is None else {**second.model_dump(), "weight": weight}
        options: dict[str, Any] = {"network_isolation": False, "experiment": experiment}  # what is off must be off
        prefix = world.prepare(first, one.predictions, **options)
        assert world.run(prefix) == 0
        return world.result(prefix)

    deploy(None)
    started = deploy(0.25)
    assert world.live(TargetVariant="challenger") == ("2", pytest.approx(two.predictions))
    assert world.live(TargetVariant="primary") == ("1", pytest.approx(one.predictions))
    changed = deploy(0.5)
    assert (changed.strategy, changed.endpoint_config_name) == ("weights", started.endpoint_config_name)
    found = world.endpoint()
    assert found is not None
    weights = {variant["VariantName"]: variant["CurrentWeight"] for variant in found["ProductionVariants"]}
    assert weights == {"primary": 0.5, "challenger": 0.5}

    world.fault("invoke-5xx", times=2)
    for _ in range(2):
        with pytest.raises(ClientError, match="ModelError"):
            world.live(TargetVariant="challenger")

    def results() -> dict[str, list[str]]:
        capfd.readouterr()
        assert variants.main(["--endpoint", world.name, "--hours", "1"]) == 0
        lines = capfd.readouterr().out.splitlines()
        assert "was changed at" in lines[-1]
        return {line.split()[0]: line.split() for line in lines[2:4]}

    # The smoke tests of three deployments asked the one, of two the other; and then there were the requests above.
    wait_until(lambda: [results()[name][3] for name in ("primary", "challenger")] == ["4", "5"], 20)
    primary, challenger = results()["primary"], results()["challenger"]
    assert primary[:7] == ["primary", "1", "50.0%", "4", "0", "(0.00%)", "0"]
    assert challenger[:8] == ["challenger", "2", "50.0%", "5", "0", "(0.00%)", "2", "(40.00%)"]
    assert 0 < float(primary[-2]) <= float(primary[-1])
    assert variants.main(["--endpoint", "nobody"]) == 64
    assert "endpoint nobody: there is none in us-east-1" in capfd.readouterr().err

    ended = deploy(None)
    assert ended.variants.keys() == {"primary"}
    assert world.client.get_model_version(world.name, "2").tags["deployment"] == "experiment-ended"


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
    write_bytes(f"{no_examples}/examples.json", b'{"examples": []}')
    refused(no_examples, "bad-input", "needs at least one")
    client().delete_object(Bucket="data", Key=no_examples.removeprefix("s3://data/") + "/examples.json")
    refused(no_examples, "bad-input", "no such object")

    changed = tmp_path / "changed"
    shutil.copytree(one.directory, changed)
    (changed / "extra").write_text("not part of the model")
    tampered = world.register(SavedModel(changed, one.digest, one.predictions))
    refused(world.prepare(tampered, one.predictions), "bad-input", digest(changed))


def test_before_anything_changed_an_outage_may_be_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = world.models
    prefix = world.prepare(world.register(one), one.predictions)
    monkeypatch.setattr("deployer.deploy.SageMaker.create_config", lambda *_: (_ for _ in ()).throw(OSError("503")))
    with pytest.raises(OSError, match="503"):  # exit code 1
        world.run(prefix)
    assert try_read_bytes(f"{prefix}/deploy/error.json") is None
    monkeypatch.undo()
    assert world.run(prefix) == 0
