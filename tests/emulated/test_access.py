"""People's way in, in environments that are really applied: the bastion is found, and leads where the outputs say."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cloud.access import forwards, targets
from cloud.environments import Environment
from tests.emulated.support import ENVIRONMENTS, Story
from tests.sessions import Sessions

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture
def environment(story: Story, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """The environment as the commands of a person in the workspace see it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in story.workspace.environment.items():
        monkeypatch.setenv(name, value)
    return Environment(story.name, story.workspace.folder)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_bastion_is_found_where_nobody_can_reach_it(story: Story, environment: Environment) -> None:
    instance = forwards.bastion(environment, print)
    (reservation,) = story.aws.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"]
    (found,) = reservation["Instances"]
    assert found["State"]["Name"] == "running"
    assert not found.get("PublicIpAddress")
    assert not found.get("KeyName")
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    (group,) = found["SecurityGroups"]
    (described,) = story.aws.client("ec2").describe_security_groups(GroupIds=[group["GroupId"]])["SecurityGroups"]
    assert described["IpPermissions"] == []
    hosts = {target.name: target.host for target in targets.targets(environment)}
    assert hosts["Airflow"] == urlsplit(story.outputs["airflow_url"]).hostname
    assert hosts["MLflow"] == urlsplit(story.outputs["mlflow_tracking_uri"]).hostname


@pytest.fixture
def mlflow() -> Iterator[int]:
    """Stand in for MLflow in the network; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["dev"])
def test_a_session_through_it_leads_to_mlflow(
    story: Story, environment: Environment, mlflow: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = Sessions(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    target = targets.mlflow(environment)
    sessions.knows([story.outputs["bastion_instance_id"]], {f"{target.host}:{target.port}": mlflow})
    with forwards.forwarded(environment, [target], print) as (found,):
        assert found.address == f"http://localhost:{found.port}"
        assert len(sessions.running()) == 1
    assert sessions.running() == []


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_dags_are_pushed_through_it(story: Story) -> None:
    assert "Airflow's page is private: going through the bastion" in story.pushed.stderr
    asked = [call["status"] for call in story.aws.calls("airflow", "CreateWebLoginToken")]
    assert asked
    assert set(asked) == {200}
    assert story.aws.calls("airflow", "InvokeRestApi") == []
    assert story.sessions_left == []


@pytest.mark.parametrize("name", ["dev"])
def test_a_push_that_finds_no_way_says_why_and_what_to_do(story: Story, tmp_path: Path) -> None:
    path = f"{Sessions(tmp_path).folder}{os.pathsep}{os.environ['PATH']}"  # they know no bastion
    done = story.workspace.cloud("push-dags", "--env", "dev", check=False, environment={"PATH": path})
    assert done.returncode == 1
    assert "is private, and AWS takes calls of its REST API from inside the VPC only" in done.stderr
    assert "(TargetNotConnected)" in done.stderr
    assert "set airflow_page_public and apply" in done.stderr
