"""The pages of docs/how-to that change code, followed to the letter in a copy of the project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from cloud import bundle
from mlplatform.documents.results import PrepareResult, Split
from tests.how_to import ROOT, apply, follow
from tests.unit.cloud.test_push_dags import PLATFORM

COPIED = ("config", "containers/trainer/src", "dags", "terraform/modules/cluster")
IGNORED = shutil.ignore_patterns("__pycache__", ".terraform")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in COPIED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=IGNORED)
    return tmp_path


def python(project: Path, *arguments: str, path: str = "dags", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the copy's code."""
    paths = os.pathsep.join(str(project / part) for part in path.split(os.pathsep))
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "TMPDIR") if name in os.environ}
    command = [sys.executable, "-B", *arguments]
    variables = kept | environment | {"PYTHONPATH": paths}
    return subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True, timeout=120)


def said(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def problems(project: Path) -> list[str]:
    """What `make push-dags` says of the copy's bundle before Airflow looks at it."""
    contents = bundle.contents(project)
    return bundle.check_python(contents) + bundle.check_settings(contents, json.dumps(PLATFORM).encode())


# --- A guard ------------------------------------------------------------------------------------

JUDGE = """
import json
from mlplatform.config.policy import Policy
from mlplatform.documents.base import versions
from mlplatform.documents.evaluation import EvaluateResult, Score
from mlplatform.promotion.gate import decide

def outcome(accuracy):
    metrics = {"roc_auc": 0.9, "accuracy": accuracy}
    evaluation = EvaluateResult(
        run_key="k", started_at="2026-01-01T00:00:00Z", finished_at="2026-01-01T00:00:00Z", champion=None, rows=500,
        candidate=Score(model_version="1", run_id="r", metrics=metrics), test_uris=[], test_digest="t",
        evaluation_digest="d", examples_uri="s3://e", report_uri="s3://r",
    )
    policy = Policy(minimum_quality=0.5, minimum_accuracy=0.8, calibration=None, latency=None, maximum_model_mib=None)
    decision = decide(evaluation, None, policy, "binary", "roc_auc")
    return next([guard.passed, guard.sentence] for guard in decision.guards if guard.name == "accuracy")

print(json.dumps([outcome(0.8), outcome(0.79), outcome(None), versions()["RunConfig"][1]]))
"""


def test_add_a_guard(project: Path) -> None:
    before = said(
        python(project, "-c", "from mlplatform.documents.run import RunConfig as R; print(R.current_version())")
    )
    touched = follow("add-a-guard.md", project)
    assert touched == {"dags/mlplatform/config/policy.py", "dags/mlplatform/promotion/guards.py"}
    at_the_limit, below, missing, version = said(python(project, "-c", JUDGE))
    assert at_the_limit == [True, "accuracy is 0.8000; at least 0.8 is required"]
    assert below == [False, "accuracy is 0.7900; at least 0.8 is required"]
    assert missing == [False, "accuracy is missing or not a number; at least 0.8 is required"]
    assert version == before + 1, "older images must not drop the guard silently"
    assert problems(project) == []


# --- A notification channel ---------------------------------------------------------------------

TELL = """
import json, sys, types
sdk = types.ModuleType("airflow.sdk")
class BaseHook:
    @staticmethod
    def get_connection(name):
        return types.SimpleNamespace(password=sys.argv[1], extra_dejson={})
sdk.BaseHook = BaseHook
sys.modules |= {"airflow": types.ModuleType("airflow"), "airflow.sdk": sdk}

from types import SimpleNamespace as Some
from mlplatform.config.environment import Notifications
from mlplatform.orchestration import notifications
from mlplatform.people import messages

chosen = Notifications.model_validate({"webhook": {"connection": "w", "events": ["deployed"]}, "timeout_seconds": 5})
settings = Some(notifications=chosen, environment="dev", aws=Some(region="r"))
told = messages.deployed("iris", "7", "iris", "jane", "good", None, [])
idle = messages.nothing_to_do("iris", "x")
print(json.dumps([notifications.send(settings, told), notifications.send(settings, idle)]))
"""


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[Any]]]:
    taken: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/secret", taken
    server.shutdown()
    server.server_close()


def test_add_a_notification_channel(project: Path, webhook: tuple[str, list[Any]]) -> None:
    address, taken = webhook
    touched = follow("add-a-notification-channel.md", project)
    assert touched == {"dags/mlplatform/config/environment.py", "dags/mlplatform/orchestration/notifications.py"}
    assert said(python(project, "-c", TELL, address)) == [True, False]
    ((event, subject),) = [(message["event"], message["subject"]) for message in taken]
    assert (event, subject) == ("deployed", "[dev] iris: version 7 is live")
    assert problems(project) == []


# --- A step -------------------------------------------------------------------------------------


@pytest.fixture
def s3() -> Iterator[tuple[Any, dict[str, str]]]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client = boto3.client(
        "s3",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="data")
    yield client, variables
    server.stop()


def prepared(rows: int) -> bytes:
    part = Split(uris=[], rows=rows, class_shares=None, target_mean=None)
    moment: Any = "2026-01-01T00:00:00Z"
    result = PrepareResult(
        run_key="k",
        started_at=moment,
        finished_at=moment,
        engine="duckdb",
        train=part,
        validation=part,
        test=part,
        profile_uri="s3://data/p",
    )
    return result.model_dump_json().encode()


def test_add_a_step(project: Path, s3: tuple[Any, dict[str, str]]) -> None:
    client, variables = s3
    touched = follow("add-a-step.md", project)
    assert len(touched) == 9
    assert problems(project) == []
    config = next((ROOT / "tests/golden/0.1.0/s3/data/runs").glob("*/*/config.json")).read_bytes()
    client.put_object(Bucket="data", Key="run/config.json", Body=config)
    command = ("-m", "trainer", "explain", "--config", "s3://data/run/config.json", "--input", "s3://data/run/prepare")
    path = os.pathsep.join(("dags", "containers/trainer/src"))
    for rows, code in ((0, 64), (7, 0)):
        client.put_object(Bucket="data", Key="run/prepare/result.json", Body=prepared(rows))
        done = python(project, *command, "--output", "s3://data/run/explain", path=path, **variables)
        assert done.returncode == code, done.stderr
    assert (
        "no row is held out" in client.get_object(Bucket="data", Key="run/explain/error.json")["Body"].read().decode()
    )
    result = json.loads(client.get_object(Bucket="data", Key="run/explain/result.json")["Body"].read())
    assert (result["step"], result["test_rows"]) == ("explain", 7)
    airflow = ROOT / ".local/envs/airflow/bin/python"
    assert bundle.check_imports(bundle.contents(project), json.dumps(PLATFORM).encode(), airflow) == []


# --- The pages themselves -----------------------------------------------------------------------


def test_a_page_that_no_longer_fits_is_noticed() -> None:
    assert apply("a\nb\nc\n", " b\n+x\n-c\n", "f") == "a\nb\nx\n"
    with pytest.raises(AssertionError, match="f: 0 places"):
        apply("a\n", " b\n+x\n", "f")
    with pytest.raises(AssertionError, match="f: 2 places"):
        apply("b\nb\n", " b\n+x\n", "f")
