"""Endpoints over real processes: every state, every way there, and what a caller sees meanwhile."""

from __future__ import annotations

import collections
import itertools
import json
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError


def refused(call: Any, **params: Any) -> tuple[str, str]:
    """Return code and message of the error that a call must end with."""
    with pytest.raises(ClientError) as error:
        call(**params)
    found = error.value.response["Error"]
    return found["Code"], found["Message"]


def process_of(stage: Any, endpoint: str) -> psutil.Process:
    """Return the serving process of an endpoint, found by its model directory."""
    for process in psutil.process_iter():
        try:
            if f"/{endpoint}-" in process.environ().get("SM_MODEL_DIR", ""):
                return process
        except psutil.Error:
            continue
    raise AssertionError(f"no serving process of {endpoint}")


def wait_gone(process: psutil.Process, seconds: float = 8.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    raise AssertionError(f"{process} is still there")


def test_create_invoke_delete(stage: Any) -> None:
    config = stage.config(stage.model({"answer.txt": "one"}))
    name = f"Story-{stage.tag}"
    arn = stage.sm.create_endpoint(EndpointName=name, EndpointConfigName=config)["EndpointArn"]
    assert arn == f"arn:aws:sagemaker:us-east-1:123456789012:endpoint/story-{stage.tag}"
    pending = stage.sm.describe_endpoint(EndpointName=name)
    assert pending["EndpointStatus"] == "Creating"
    assert pending["PendingDeploymentSummary"]["EndpointConfigName"] == config
    assert refused(stage.runtime.invoke_endpoint, EndpointName=name, Body=b"") == (
        "ValidationError",
        f"Endpoint {name} of account 123456789012 not found.",
    )
    live = stage.settle(name)
    assert "PendingDeploymentSummary" not in live
    assert "FailureReason" not in live
    (variant,) = live["ProductionVariants"]
    assert variant["CurrentInstanceCount"] == variant["DesiredInstanceCount"] == 1
    assert variant["DeployedImages"][0]["SpecifiedImage"].endswith("/mlplatform/serving:0123456789ab")

    answer = stage.runtime.invoke_endpoint(
        EndpointName=name, Body=b"{}", ContentType="text/csv", Accept="application/json", CustomAttributes="a=1"
    )
    assert answer["InvokedProductionVariant"] == "variant-0"
    assert answer["CustomAttributes"] == "got a=1"
    assert json.loads(answer["Body"].read()) == {"answer": "one", "headers": ["text/csv", "application/json"]}

    process = process_of(stage, name)
    stage.sm.delete_endpoint(EndpointName=name)
    assert stage.sm.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Deleting"
    wait_gone(process)
    for _ in range(100):
        if not stage.sm.list_endpoints(NameContains=name)["Endpoints"]:
            break
        time.sleep(0.05)
    gone = ("ValidationException", f'Could not find endpoint "{arn}".')
    assert refused(stage.sm.describe_endpoint, EndpointName=name) == gone
    assert refused(stage.sm.delete_endpoint, EndpointName=name) == gone


def test_the_order_of_states(start_aws: Any, tmp_path: Path) -> None:
    """On a server that stays in each state for long enough to be seen on a busy machine."""
    stage = start_aws(tmp_path, "--min-state-seconds", "1")
    config = stage.config(stage.model())
    name = "states"
    stage.sm.create_endpoint(EndpointName=name, EndpointConfigName=config)
    assert stage.settle(name)["States"] == ["Creating", "InService"]
    stage.sm.update_endpoint(EndpointName=name, EndpointConfigName=config)
    assert stage.settle(name)["States"] == ["Updating", "InService"]
    stage.aws.fault("update-fails")
    stage.sm.update_endpoint(EndpointName=name, EndpointConfigName=config)
    assert stage.settle(name)["States"] == ["Updating", "RollingBack", "InService"]
    stage.aws.fault("system-update")
    stage.sm.update_endpoint(EndpointName=name, EndpointConfigName=config)
    while stage.sm.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Updating":
        time.sleep(0.05)
    assert refused(stage.sm.delete_endpoint, EndpointName=name)[1].startswith("Cannot update in-progress endpoint")
    assert stage.settle(name)["States"] == ["SystemUpdating", "InService"]


def test_the_container_gets_a_clean_environment(stage: Any) -> None:
    endpoint = stage.endpoint(stage.config(stage.model({"deep/file.txt": "x"}, Environment={"LEVEL": "info"})))
    env = stage.invoke(endpoint, b"env")
    assert (env["FROM_IMAGE"], env["LEVEL"]) == ("yes", "info")
    assert env["SAGEMAKER_BIND_TO_PORT"].isdigit()
    assert "AWS_SECRET_IN_OUR_SHELL" not in env
    assert set(env) <= {"PATH", "FROM_IMAGE", "LEVEL", "SM_MODEL_DIR", "SAGEMAKER_BIND_TO_PORT", "LC_CTYPE"}


def test_a_model_without_data_is_served(stage: Any) -> None:
    assert stage.invoke(stage.endpoint(stage.config(stage.model())))["answer"] == "none"


def test_update_answers_all_the_time(stage: Any) -> None:
    endpoint = stage.endpoint(stage.config(stage.model({"answer.txt": "one"})))
    old = process_of(stage, endpoint)
    new_config = stage.config(stage.model({"answer.txt": "two"}))
    answers: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(stage.invoke(endpoint)["answer"])
            time.sleep(0.01)

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    policy = {"TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}}
    alarm = stage.alarm(endpoint)
    deployment = {"BlueGreenUpdatePolicy": policy, "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm}]}}
    stage.sm.update_endpoint(EndpointName=endpoint, EndpointConfigName=new_config, DeploymentConfig=deployment)
    during = stage.sm.describe_endpoint(EndpointName=endpoint)
    assert during["EndpointStatus"] == "Updating"
    assert during["EndpointConfigName"] != new_config
    assert during["PendingDeploymentSummary"]["EndpointConfigName"] == new_config
    live = stage.settle(endpoint)
    time.sleep(0.2)
    stop.set()
    for asker in askers:
        asker.join()
    assert live["EndpointConfigName"] == new_config
    assert live["LastDeploymentConfig"] == deployment
    assert live["LastModifiedTime"] > live["CreationTime"]
    changes = [answers[0], *(b for a, b in itertools.pairwise(answers) if a != b)]
    assert (changes[0], changes[-1]) == ("one", "two")
    wait_gone(old)


def test_an_update_waits_for_answers_under_way(stage: Any) -> None:
    endpoint = stage.endpoint(stage.config(stage.model({"mode.txt": "slow", "answer.txt": "slow one"})))
    answers: list[str] = []
    asker = threading.Thread(target=lambda: answers.append(stage.invoke(endpoint)["answer"]))
    stage.sm.update_endpoint(EndpointName=endpoint, EndpointConfigName=stage.config(stage.model()))
    time.sleep(0.1)
    asker.start()
    stage.settle(endpoint)
    asker.join()
    assert answers == ["slow one"]


def test_failed_updates_roll_back(stage: Any) -> None:
    """All at once, since most of it is waiting."""
    old_config = stage.config(stage.model({"answer.txt": "old"}))
    missing = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mlplatform/serving:ffffffffffff"
    stage.s3.put_object(Bucket=stage.bucket, Key="bad.tar.gz", Body=b"not an archive")
    cases = {
        "never-healthy": (stage.model({"mode.txt": "never-healthy"}), "no healthy answer to /ping in 5 s"),
        "exits": (stage.model({"mode.txt": "exit"}), "did not pass the ping health check"),
        "missing-image": (stage.model(image=missing), f"The image '{missing}' does not exist"),
        "no-archive": (stage.model(ModelDataUrl=f"s3://{stage.bucket}/bad.tar.gz"), "Failed to extract model data"),
        "fault": (stage.model(), "Injected by the fault endpoint"),
    }
    endpoints = {case: f"{case}-{stage.tag}" for case in cases}
    stage.aws.fault("update-fails", endpoints["fault"])
    for name in endpoints.values():
        stage.sm.create_endpoint(EndpointName=name, EndpointConfigName=old_config)
    for case, (model, _) in cases.items():
        stage.settle(endpoints[case])
        stage.sm.update_endpoint(EndpointName=endpoints[case], EndpointConfigName=stage.config(model))
    changing = set(cases)
    while changing:
        for case in sorted(changing):
            status = stage.sm.describe_endpoint(EndpointName=endpoints[case])["EndpointStatus"]
            assert status in ("Updating", "RollingBack", "InService")
            if status == "InService":
                changing.remove(case)
            assert stage.invoke(endpoints[case])["answer"] == "old"
    for case, (_, reason) in cases.items():
        live = stage.sm.describe_endpoint(EndpointName=endpoints[case])
        assert live["EndpointConfigName"] == old_config
        assert reason in live["FailureReason"]
        assert "PendingDeploymentSummary" not in live


def test_a_good_update_forgets_the_failure_of_the_last_one(stage: Any) -> None:
    endpoint = stage.endpoint(stage.config(stage.model()))
    stage.aws.fault("update-fails", endpoint)
    new_config = stage.config(stage.model({"answer.txt": "new"}))
    stage.sm.update_endpoint(EndpointName=endpoint, EndpointConfigName=new_config)
    assert "FailureReason" in stage.settle(endpoint)
    stage.sm.update_endpoint(EndpointName=endpoint, EndpointConfigName=new_config)
    assert "FailureReason" not in stage.settle(endpoint)
    assert stage.invoke(endpoint)["answer"] == "new"


def test_a_failed_creation(stage: Any) -> None:
    config = stage.config(stage.model({"mode.txt": "exit"}), stage.model())
    name = f"failed-{stage.tag}"
    stage.sm.create_endpoint(EndpointName=name, EndpointConfigName=config)
    failed = stage.settle(name)
    assert failed["EndpointStatus"] == "Failed"
    assert "production variant variant-0 did not pass the ping health check" in failed["FailureReason"]
    assert "exit code 1" in failed["FailureReason"]
    log = stage.aws.state_dir / "logs" / "sagemaker" / name / "variant-0.log"
    assert "the model cannot be loaded" in log.read_text()
    code, message = refused(stage.runtime.invoke_endpoint, EndpointName=name, Body=b"")
    assert (code, "not found" in message) == ("ValidationError", True)
    assert refused(stage.sm.update_endpoint, EndpointName=name, EndpointConfigName=config)[0] == "ValidationException"
    stage.sm.delete_endpoint(EndpointName=name)


def test_the_startup_time_of_the_variant_is_kept(stage: Any) -> None:
    model = stage.model({"mode.txt": "never-healthy"})
    config = stage.config(model, ContainerStartupHealthCheckTimeoutInSeconds=60)
    name = f"slow-{stage.tag}"
    stage.sm.create_endpoint(EndpointName=name, EndpointConfigName=config)
    time.sleep(5.5)  # the default of this server is 5 s
    assert stage.sm.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Creating"


@pytest.mark.parametrize("member", ["../escaped.txt", "/tmp/escaped-absolute.txt", "link"])
def test_an_archive_that_reaches_out_is_refused(stage: Any, member: str, archive: Any) -> None:
    def spoil(info: Any) -> None:
        if info.name == "link":
            info.type, info.linkname, info.size = b"2", "../../../../etc", 0

    stage.s3.put_object(Bucket=stage.bucket, Key="model.tar.gz", Body=archive({member: "x"}, spoil))
    model = stage.model(ModelDataUrl=f"s3://{stage.bucket}/model.tar.gz")
    live = stage.sm.describe_endpoint(EndpointName=stage.endpoint(stage.config(model)))
    if member.startswith("/"):  # the "data" filter makes the path relative, and that is safe too
        assert live["EndpointStatus"] == "InService"
    else:
        assert live["EndpointStatus"] == "Failed"
        assert "outside" in live["FailureReason"]
    assert not list(stage.aws.state_dir.glob("models/**/../escaped.txt"))


@pytest.mark.parametrize(("status", "kind"), [(500, "server"), (400, "client")])
def test_a_models_error_is_a_model_error(stage: Any, status: int, kind: str) -> None:
    endpoint = stage.endpoint(stage.config(stage.model({"mode.txt": f"error-{status}"})))
    with pytest.raises(stage.runtime.exceptions.ModelError) as error:
        stage.invoke(endpoint)
    response = error.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == status
    assert response["OriginalMessage"] == "model says no"
    assert f'Received {kind} error ({status}) from primary with message "model says no"' in response["Error"]["Message"]


def test_the_invoke_fault_counts_down(stage: Any) -> None:
    endpoint = stage.endpoint(stage.config(stage.model()))
    stage.aws.fault("invoke-5xx", endpoint, times=2)
    for _ in range(2):
        with pytest.raises(stage.runtime.exceptions.ModelError):
            stage.invoke(endpoint)
    assert stage.invoke(endpoint)["answer"] == "none"


def test_create_fault(stage: Any) -> None:
    name = f"fault-{stage.tag}"
    stage.aws.fault("create-fails", name)
    stage.sm.create_endpoint(EndpointName=name, EndpointConfigName=stage.config(stage.model()))
    assert stage.settle(name)["EndpointStatus"] == "Failed"


def test_variants_share_traffic_by_weight(stage: Any) -> None:
    models = [stage.model({"answer.txt": text}) for text in ("a", "b", "c")]
    endpoint = stage.endpoint(stage.config(*models, weights=(3.0, 1.0, 0.0)))
    counts = collections.Counter(stage.invoke(endpoint)["answer"] for _ in range(200))
    assert counts["c"] == 0
    assert 115 < counts["a"] < 185  # 150 expected, sigma 6.1
    assert stage.invoke(endpoint, TargetVariant="variant-2")["answer"] == "c"
    with pytest.raises(ClientError, match="Variant nobody not found for Request"):
        stage.invoke(endpoint, TargetVariant="nobody")

    desired = [
        {"VariantName": "variant-0", "DesiredWeight": 0.0},
        {"VariantName": "variant-1", "DesiredInstanceCount": 3},
    ]
    stage.sm.update_endpoint_weights_and_capacities(EndpointName=endpoint, DesiredWeightsAndCapacities=desired)
    live = stage.settle(endpoint)
    assert [v["CurrentWeight"] for v in live["ProductionVariants"]] == [0.0, 1.0, 0.0]
    assert [v["DesiredInstanceCount"] for v in live["ProductionVariants"]] == [1, 3, 1]
    assert {stage.invoke(endpoint)["answer"] for _ in range(20)} == {"b"}

    new_config = stage.config(*models, weights=(1.0, 1.0, 1.0))
    stage.sm.update_endpoint(
        EndpointName=endpoint,
        EndpointConfigName=new_config,
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=[{"VariantPropertyType": "DesiredWeight"}],
    )
    live = stage.settle(endpoint)
    assert [v["CurrentWeight"] for v in live["ProductionVariants"]] == [1.0, 1.0, 1.0]
    assert [v["DesiredInstanceCount"] for v in live["ProductionVariants"]] == [1, 3, 1]


def test_a_dead_process_is_replaced(stage: Any) -> None:
    endpoint = stage.endpoint(stage.config(stage.model({"answer.txt": "back"})))
    first = process_of(stage, endpoint)
    codes = set()
    with pytest.raises(ClientError) as died:
        stage.invoke(endpoint, b"die")
    codes.add(died.value.response["Error"]["Code"])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            assert stage.invoke(endpoint)["answer"] == "back"
            break
        except ClientError as error:
            codes.add(error.response["Error"]["Code"])
            time.sleep(0.1)
    assert codes == {"ServiceUnavailable"}
    assert stage.sm.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] == "InService"
    assert process_of(stage, endpoint).pid != first.pid


def test_payload_limit(stage: Any) -> None:
    endpoint = stage.endpoint(stage.config(stage.model()))
    limit = 6 * 1024 * 1024
    assert stage.invoke(endpoint, b"x" * limit)["answer"] == "none"
    with pytest.raises(ClientError) as too_big:
        stage.invoke(endpoint, b"x" * (limit + 1))
    assert too_big.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_nothing_else_may_happen_while_an_endpoint_changes(stage: Any) -> None:
    config = stage.config(stage.model())
    name = f"busy-{stage.tag}"
    arn = stage.sm.create_endpoint(EndpointName=name, EndpointConfigName=config)["EndpointArn"]
    busy = ("ValidationException", f'Cannot update in-progress endpoint "{arn}".')
    assert refused(stage.sm.update_endpoint, EndpointName=name, EndpointConfigName=config) == busy
    assert refused(stage.sm.delete_endpoint, EndpointName=name) == busy
    twice = ("ValidationException", f'Cannot create already existing endpoint "{arn}".')
    assert refused(stage.sm.create_endpoint, EndpointName=name.upper(), EndpointConfigName=config) == twice
    stage.settle(name)
    stage.sm.update_endpoint(EndpointName=name, EndpointConfigName=config)
    assert refused(stage.sm.update_endpoint, EndpointName=name, EndpointConfigName=config) == busy
    stage.settle(name)
    stage.sm.delete_endpoint(EndpointName=name)
    assert refused(stage.sm.delete_endpoint, EndpointName=name) == busy


def test_without_its_live_configuration_an_endpoint_serves_but_cannot_be_updated(stage: Any) -> None:
    config, other = stage.config(stage.model()), stage.config(stage.model())
    endpoint = stage.endpoint(config)
    stage.sm.delete_endpoint_config(EndpointConfigName=config)
    assert stage.invoke(endpoint)["answer"] == "none"
    _, message = refused(stage.sm.update_endpoint, EndpointName=endpoint, EndpointConfigName=other)
    assert message.startswith("Could not find endpoint configuration ")
    assert message.endswith(f'/{config}".')


def test_the_runtime_minds_case_and_the_control_plane_does_not(stage: Any) -> None:
    name = f"Case-{stage.tag}"
    stage.sm.create_endpoint(EndpointName=name, EndpointConfigName=stage.config(stage.model()))
    stage.settle(name)
    assert stage.sm.describe_endpoint(EndpointName=name.lower())["EndpointName"] == name
    assert refused(stage.runtime.invoke_endpoint, EndpointName=name.lower(), Body=b"")[0] == "ValidationError"
