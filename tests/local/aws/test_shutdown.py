"""However the server ends, its serving processes end too."""

from __future__ import annotations

import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest


def wait_all_gone(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return what is left after that time."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    # An orphan stays a zombie where process 1 is not an init, as in many containers.
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def own_stage(start_aws: Any, tmp_path: Path) -> Any:
    return start_aws(tmp_path)


def test_sigterm_leaves_no_process(own_stage: Any) -> None:
    own_stage.endpoint(own_stage.config(own_stage.model(), own_stage.model({"mode.txt": "stubborn"})))
    starting = own_stage.config(own_stage.model({"mode.txt": "never-healthy"}))
    own_stage.sm.create_endpoint(EndpointName="starting", EndpointConfigName=starting)
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 60
    while len(children) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
        children = psutil.Process(own_stage.aws.process.pid).children(recursive=True)
    assert len(children) == 4  # two variants, the child of one of them, and the one still starting
    began = time.monotonic()
    assert own_stage.aws.stop() == 0
    assert time.monotonic() - began < 20  # ten seconds where nothing else runs; no request may hold it up for ever
    assert wait_all_gone(children, 3) == []
    assert list((own_stage.aws.state_dir / "models").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_an_end_while_a_rollout_bakes_leaves_nothing(start_aws: Any, tmp_path: Path, number: signal.Signals) -> None:
    stage = start_aws(tmp_path)
    old, new = (stage.config(stage.model(), InitialInstanceCount=2) for _ in range(2))
    endpoint = stage.endpoint(old)
    routing = {
        "Type": "CANARY",
        "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
        "WaitIntervalInSeconds": 3600,
    }
    policy = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}
    stage.sm.update_endpoint(EndpointName=endpoint, EndpointConfigName=new, DeploymentConfig=policy)

    def is_baking() -> bool:
        pending = stage.sm.describe_endpoint(EndpointName=endpoint)["PendingDeploymentSummary"]
        return bool(pending["ProductionVariants"][0]["VariantStatus"][0]["Status"] == "Baking")

    deadline = time.monotonic() + 60
    while not is_baking():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = psutil.Process(stage.aws.process.pid).children(recursive=True)
    ports = {connection.laddr.port for child in children for connection in child.net_connections("tcp")}
    assert len(children) == len(ports) == 2, "the old fleet and the new one"
    stage.aws.process.send_signal(number)
    assert stage.aws.process.wait(20) == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    assert wait_all_gone(children, 3) == []
    for port in (*ports, stage.aws.port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, port
    # Another server on the same folder begins empty, and the same names can be made again.
    again = start_aws(tmp_path)
    with pytest.raises(again.sm.exceptions.ClientError, match="Could not find endpoint"):
        again.sm.describe_endpoint(EndpointName=endpoint)
    config = again.config(again.model())
    again.sm.create_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    assert again.settle(endpoint)["EndpointStatus"] == "InService"


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_sigkill_leaves_no_serving_process(own_stage: Any) -> None:
    own_stage.endpoint(own_stage.config(own_stage.model()))
    children = psutil.Process(own_stage.aws.process.pid).children(recursive=True)
    assert len(children) == 1
    own_stage.aws.process.send_signal(signal.SIGKILL)
    assert wait_all_gone(children, 3) == []
