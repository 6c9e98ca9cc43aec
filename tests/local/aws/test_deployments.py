"""Deployments with guardrails, under load: real processes, real requests, a clock that is 200 times as fast."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

OLD, NEW = "old", "new"


def policy(kind: str, alarms: tuple[str, ...] = (), wait: int = 0, last: int = 0, **sizes: int) -> dict[str, Any]:
    """Return a DeploymentConfig; sizes are numbers of instances."""
    routing: dict[str, Any] = {"Type": kind, "WaitIntervalInSeconds": wait}
    routing |= {name: {"Type": "INSTANCE_COUNT", "Value": value} for name, value in sizes.items()}
    config: dict[str, Any] = {
        "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": last}
    }
    if alarms:
        config["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": name} for name in alarms]}
    return config


@dataclass
class Load:
    """What came back: (time, answer) of each good request, and each error."""

    answers: list[tuple[float, str]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def counts(self, since: float = 0.0, until: float = float("inf")) -> collections.Counter[str]:
        return collections.Counter(answer for at, answer in self.answers if since <= at <= until)


@contextmanager
def load(stage: Any, endpoint: str, threads: int = 6, **params: Any) -> Iterator[Load]:
    """Ask an endpoint all the time, without a single retry."""
    seen, stop = Load(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            began = time.monotonic()
            try:
                seen.answers.append((began, stage.invoke(endpoint, **params)["answer"]))
            except ClientError as error:
                seen.errors.append(error.response["Error"]["Code"])
            except BotoCoreError as error:
                seen.errors.append(repr(error))
            time.sleep(0.01)

    askers = [threading.Thread(target=ask) for _ in range(threads)]
    for asker in askers:
        asker.start()
    try:
        yield seen
    finally:
        stop.set()
        for asker in askers:
            asker.join()


def configs(stage: Any, count: int = 4, **new: str) -> tuple[str, str]:
    """Return an old and a new configuration; answers take a moment, so that some are always under way."""
    old = stage.model({"answer.txt": OLD, "delay.txt": "0.04"})
    newer = stage.model({"answer.txt": NEW, "delay.txt": "0.04"} | {f"{name}.txt": text for name, text in new.items()})
    return stage.config(old, InitialInstanceCount=count), stage.config(newer, InitialInstanceCount=count)


def update(stage: Any, endpoint: str, config: str, deployment: dict[str, Any] | None = None, **params: Any) -> None:
    if deployment is not None:
        params["DeploymentConfig"] = deployment
    stage.sm.update_endpoint(EndpointName=endpoint, EndpointConfigName=config, **params)


def wait_for(stage: Any, endpoint: str, variant_status: str, seconds: float = 20.0) -> dict[str, Any]:
    """Wait for a stage of a deployment and return what DescribeEndpoint says then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found: dict[str, Any] = stage.sm.describe_endpoint(EndpointName=endpoint)
        variants = found.get("PendingDeploymentSummary", {}).get("ProductionVariants", [{}])
        if variant_status in [status["Status"] for status in variants[0].get("VariantStatus", [])]:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{endpoint} never was {variant_status}: {found}")


@pytest.mark.parametrize(
    "deployment",
    [
        None,
        policy("ALL_AT_ONCE", wait=100, last=50),
        policy("CANARY", wait=100, last=50, CanarySize=1),
        policy("LINEAR", wait=100, last=50, LinearStepSize=2),
    ],
    ids=["plain", "all-at-once", "canary", "linear"],
)
def test_no_request_is_lost_while_fleets_are_swapped(stage: Any, deployment: dict[str, Any] | None) -> None:
    old, new = configs(stage)
    endpoint = stage.endpoint(old)
    with load(stage, endpoint) as seen:
        update(stage, endpoint, new, deployment)
        live = stage.settle(endpoint)
        time.sleep(0.3)  # the old fleet is drained and stopped meanwhile
    assert seen.errors == []
    assert live["EndpointConfigName"] == new
    assert live.get("LastDeploymentConfig") == deployment
    assert seen.counts()[OLD] > 5
    assert seen.counts()[NEW] > 5
    assert seen.answers[-1][1] == NEW


def test_a_canary_gets_its_share(stage: Any) -> None:
    old, new = configs(stage)
    endpoint = stage.endpoint(old)
    alarm = stage.alarm(endpoint, Namespace="Business")
    with load(stage, endpoint, threads=10) as seen:
        update(stage, endpoint, new, policy("CANARY", (alarm,), wait=3600, CanarySize=1))
        baking = wait_for(stage, endpoint, "Baking")
        began = time.monotonic()
        while sum(seen.counts(began).values()) < 150 and time.monotonic() < began + 10:
            time.sleep(0.1)
        during = seen.counts(began)
        wait_for(stage, endpoint, "Baking")  # still
        stage.aws.client("cloudwatch").set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="enough")
        stage.settle(endpoint)
    assert seen.errors == []
    assert (baking["EndpointStatus"], baking["EndpointConfigName"]) == ("Updating", old)
    (pending,) = baking["PendingDeploymentSummary"]["ProductionVariants"]
    assert (pending["CurrentWeight"], pending["DesiredWeight"]) == (0.25, 1.0)
    assert (pending["CurrentInstanceCount"], pending["DesiredInstanceCount"]) == (4, 4)
    assert sum(during.values()) > 60
    assert 0.05 < during[NEW] / sum(during.values()) < 0.5  # 0.25 expected, sigma at most 0.06


def test_an_alarm_on_real_errors_rolls_back(stage: Any) -> None:
    old, bad = configs(stage, mode="error-500")
    endpoint = stage.endpoint(old)
    alarm = stage.alarm(endpoint)
    cloudwatch = stage.aws.client("cloudwatch")
    described = [{"StateValue": "OK", "StateReason": ""}]

    def look() -> str:
        (found,) = cloudwatch.describe_alarms(AlarmNames=[alarm])["MetricAlarms"]
        if found["StateValue"] != described[-1]["StateValue"]:
            described.append(found)
        return str(found["StateValue"])

    with load(stage, endpoint) as seen:
        update(stage, endpoint, bad, policy("CANARY", (alarm,), wait=3600, CanarySize=1))
        wait_for(stage, endpoint, "Baking")
        deadline = time.monotonic() + 20
        while look() != "ALARM":
            assert time.monotonic() < deadline
        live = stage.settle(endpoint)
        errors = len(seen.errors)
        # The rest is answered by the old fleet only, and the alarm turns green by itself.
        while look() != "OK":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.3)
    assert described[-1]["StateValue"] == "OK"
    assert "breached the threshold" in described[1]["StateReason"]
    assert live["States"][-1] == "InService"
    assert live["EndpointConfigName"] == old
    assert live["FailureReason"] == f"Rolled back, because of alarms in the state ALARM: {alarm}."
    # Nothing failed but what the bad model itself answered.
    assert set(seen.errors) == {"ModelError"}
    assert len(seen.errors) == errors
    assert NEW not in seen.counts()


def test_metrics_count_every_request(stage: Any) -> None:
    endpoint = stage.endpoint(stage.config(stage.model({"answer.txt": OLD})))
    stage.aws.fault("invoke-5xx", endpoint, times=3)
    for _ in range(3):
        with pytest.raises(stage.runtime.exceptions.ModelError):
            stage.invoke(endpoint)
    for _ in range(7):
        stage.invoke(endpoint)
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "variant-0"}]

    def total(metric: str, statistic: str = "Sum") -> float:
        found = stage.aws.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=dimensions,
            StartTime=time.time() - 300,
            EndTime=time.time() + 60,
            Period=3600,
            Statistics=[statistic],
        )
        return sum(float(point[statistic]) for point in found["Datapoints"])

    deadline = time.monotonic() + 10
    while total("Invocations") < 10 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (total("Invocations"), total("Invocation5XXErrors"), total("Invocation4XXErrors")) == (10.0, 3.0, 0.0)
    assert total("ModelLatency", "SampleCount") == 10.0
    assert 0 < total("ModelLatency") / 10 < 5_000_000  # microseconds
    assert total("OverheadLatency") > 0


def test_an_alarm_set_by_hand_rolls_back_the_last_bake_too(stage: Any) -> None:
    old, new = configs(stage)
    endpoint = stage.endpoint(old)
    # An alarm on something else, which nobody here evaluates.
    alarm = stage.alarm(endpoint, Namespace="Business", MetricName="Bookings")
    with load(stage, endpoint) as seen:
        update(stage, endpoint, new, policy("ALL_AT_ONCE", (alarm,), wait=3600))
        wait_for(stage, endpoint, "Baking")
        time.sleep(0.2)
        stage.aws.client("cloudwatch").set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="by hand")
        live = stage.settle(endpoint)
        time.sleep(0.3)
    assert live["EndpointConfigName"] == old
    assert alarm in live["FailureReason"]
    assert seen.errors == []
    assert seen.counts()[NEW] > 0
    assert seen.answers[-1][1] == OLD


def test_a_deployment_that_takes_too_long_rolls_back(stage: Any) -> None:
    old, slow = configs(stage, start="2")
    endpoint = stage.endpoint(old)
    deployment = policy("ALL_AT_ONCE", wait=599)
    deployment["BlueGreenUpdatePolicy"]["MaximumExecutionTimeoutInSeconds"] = 600
    update(stage, endpoint, slow, deployment)
    live = stage.settle(endpoint)
    assert live["EndpointConfigName"] == old
    assert live["FailureReason"] == "The deployment took longer than 600 seconds."
    assert stage.invoke(endpoint)["answer"] == OLD


def test_a_silent_rollback_says_nothing(stage: Any) -> None:
    old, new = configs(stage)
    endpoint = stage.endpoint(old)
    stage.aws.fault("update-rolls-back-silently", endpoint)
    update(stage, endpoint, new)
    live = stage.settle(endpoint)
    assert (live["EndpointStatus"], live["EndpointConfigName"]) == ("InService", old)
    assert "FailureReason" not in live
    assert stage.invoke(endpoint)["answer"] == OLD


def test_a_failed_rollback_leaves_a_mix_that_the_next_update_heals(stage: Any) -> None:
    old, new = configs(stage)
    endpoint = stage.endpoint(old)
    alarm = stage.alarm(endpoint, Namespace="Business")
    stage.aws.fault("rollback-fails", endpoint)
    update(stage, endpoint, new, policy("CANARY", (alarm,), wait=3600, CanarySize=2))
    wait_for(stage, endpoint, "Baking")
    stage.aws.client("cloudwatch").set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="by hand")
    stuck = stage.settle(endpoint)
    assert (stuck["EndpointStatus"], stuck["EndpointConfigName"]) == ("UpdateRollbackFailed", old)
    assert {stage.invoke(endpoint)["answer"] for _ in range(40)} == {OLD, NEW}
    with load(stage, endpoint) as seen:
        update(stage, endpoint, new)
        healed = stage.settle(endpoint)
        time.sleep(0.2)
    assert (healed["EndpointStatus"], healed["EndpointConfigName"]) == ("InService", new)
    assert seen.errors == []
    assert {stage.invoke(endpoint)["answer"] for _ in range(10)} == {NEW}


def test_faults_of_the_canary_hit_nobody_else(stage: Any) -> None:
    old, new = configs(stage)
    endpoint = stage.endpoint(old)
    stage.aws.fault("canary-5xx", endpoint, times=1000)
    assert stage.invoke(endpoint)["answer"] == OLD
    alarm = stage.alarm(endpoint)
    with load(stage, endpoint) as seen:
        update(stage, endpoint, new, policy("CANARY", (alarm,), wait=3600, CanarySize=1))
        live = stage.settle(endpoint)
    assert live["EndpointConfigName"] == old
    assert alarm in live["FailureReason"]
    assert set(seen.errors) == {"ModelError"}
    stage.aws.http.delete("/_local/faults")


def test_an_alarm_must_exist_and_there_are_ten_at_most(stage: Any) -> None:
    old, new = configs(stage)
    endpoint = stage.endpoint(old)
    with pytest.raises(ClientError, match=r"ValidationException.*no CloudWatch alarm of this name: nobody"):
        update(stage, endpoint, new, policy("ALL_AT_ONCE", (stage.alarm(endpoint), "nobody")))
    with pytest.raises(ClientError, match="Member must have length less than or equal to 10"):
        update(stage, endpoint, new, policy("ALL_AT_ONCE", tuple(f"alarm-{i}" for i in range(11))))
    with pytest.raises(ClientError, match="There is no CloudWatch alarm"):
        stage.sm.create_endpoint(
            EndpointName="none", EndpointConfigName=new, DeploymentConfig=policy("ALL_AT_ONCE", ("nobody",))
        )
    single, _ = configs(stage, count=1)
    with pytest.raises(ClientError, match="has one instance: use ALL_AT_ONCE"):
        update(stage, endpoint, single, policy("CANARY", CanarySize=1))
    # What is refused changes nothing.
    assert stage.sm.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] == "InService"


def test_two_variants_keep_their_split_during_a_canary(stage: Any) -> None:
    def both(suffix: str) -> str:
        models = [stage.model({"answer.txt": f"{name}-{suffix}"}) for name in ("a", "b")]
        config: str = stage.config(*models, weights=(3.0, 1.0), InitialInstanceCount=2)
        return config

    endpoint = stage.endpoint(both(OLD))
    scaled = [{"VariantName": "variant-1", "DesiredWeight": 1.0, "DesiredInstanceCount": 4}]
    stage.sm.update_endpoint_weights_and_capacities(EndpointName=endpoint, DesiredWeightsAndCapacities=scaled)
    changing = stage.sm.describe_endpoint(EndpointName=endpoint)["ProductionVariants"][1]
    assert (changing["CurrentInstanceCount"], changing["DesiredInstanceCount"]) == (2, 4)
    stage.settle(endpoint)
    update(
        *(stage, endpoint, both(NEW), policy("CANARY", wait=3600, CanarySize=1)),
        RetainAllVariantProperties=True,
    )
    pending = wait_for(stage, endpoint, "Baking")["PendingDeploymentSummary"]["ProductionVariants"]
    assert [variant["DesiredInstanceCount"] for variant in pending] == [2, 4]
    assert [variant["CurrentWeight"] for variant in pending] == [1.5, 0.25]
    counts = collections.Counter(stage.invoke(endpoint)["answer"] for _ in range(200))
    assert set(counts) == {"a-old", "a-new", "b-old", "b-new"}
    assert 120 < counts["a-old"] + counts["a-new"] < 180  # 150 expected, sigma 6.1
    assert 42 < counts["a-new"] < 108  # 75 expected, sigma 6.8
    targeted = {stage.invoke(endpoint, TargetVariant="variant-1")["answer"] for _ in range(40)}
    assert targeted == {"b-old", "b-new"}
    answer = stage.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"{}", TargetVariant="variant-1")
    assert answer["InvokedProductionVariant"] == "variant-1"


def test_weights_that_cannot_be(stage: Any) -> None:
    old, _ = configs(stage)
    endpoint = stage.endpoint(old)
    for changes, message in (
        ([{"VariantName": "variant-0", "DesiredWeight": 0.0}], "weight greater than zero"),
        ([{"VariantName": "variant-0", "DesiredInstanceCount": 0}], "must be at least 1"),
        ([{"VariantName": "variant-0"}, {"VariantName": "variant-0"}], "must be unique"),
        ([{"VariantName": "nobody", "DesiredWeight": 1.0}], "Could not find variant"),
    ):
        with pytest.raises(ClientError, match=message):
            stage.sm.update_endpoint_weights_and_capacities(EndpointName=endpoint, DesiredWeightsAndCapacities=changes)
    assert stage.invoke(endpoint)["answer"] == OLD


def test_the_last_deployment_configuration_can_be_used_again(stage: Any) -> None:
    old, new = configs(stage)
    endpoint = stage.endpoint(old)
    deployment = policy("CANARY", wait=100, CanarySize=1)
    update(stage, endpoint, new, deployment)
    stage.settle(endpoint)
    update(stage, endpoint, old, RetainDeploymentConfig=True)
    wait_for(stage, endpoint, "Baking")
    assert stage.settle(endpoint)["LastDeploymentConfig"] == deployment
