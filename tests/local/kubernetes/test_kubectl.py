"""What a person does with kubectl."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_BESIDE = Path(sys.executable).parent / "kubectl"
KUBECTL = str(_BESIDE) if _BESIDE.exists() else shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="kubectl is neither beside this Python nor on PATH")


def _kubectl(server: Any, *arguments: str, text: str | None = None, code: int = 0) -> str:
    command = [str(KUBECTL), "--kubeconfig", server.kubeconfig, *arguments]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_pods_life_with_kubectl(server: Any, pods: Any) -> None:
    body = pods.body("trap=bye", "print=ready", "sleep=20", name="by-hand")
    pods.names.append("by-hand")
    assert "created" in _kubectl(server, "create", "-f", "-", text=json.dumps(body))
    _kubectl(server, "wait", "--for=condition=Ready", "pod/by-hand", "--timeout=10s")
    listed = _kubectl(server, "get", "pods", "by-hand", "-o", "wide").split()
    assert {"READY", "STATUS", "1/1", "Running", "NODE", "cpu"} <= set(listed)
    assert "Successfully assigned ml-training/by-hand to cpu" in _kubectl(server, "describe", "pod", "by-hand")
    assert _kubectl(server, "exec", "by-hand", "--", "sh", "-c", "echo $FROM") == "image\n"
    assert _kubectl(server, "exec", "-i", "by-hand", "--", "cat", text="piped") == "piped"
    assert "exit code 5" in _kubectl(server, "exec", "by-hand", "--", "sh", "-c", "exit 5", code=5)
    missing = _kubectl(server, "exec", "by-hand", "--", "/no/such", code=1)
    assert missing.startswith("error: Internal error occurred: error executing command in container: failed to exec")
    assert "Scheduled" in _kubectl(server, "get", "events", "--field-selector", "involvedObject.name=by-hand")
    assert "labeled" in _kubectl(server, "label", "pod", "by-hand", "colour=red")
    following = subprocess.Popen(
        [str(KUBECTL), "--kubeconfig", server.kubeconfig, "logs", "-f", "by-hand"], stdout=subprocess.PIPE, text=True
    )
    assert following.stdout is not None
    assert following.stdout.readline() == "ready\n"
    assert "deleted" in _kubectl(server, "delete", "pod", "by-hand")
    assert following.communicate(timeout=10)[0] == "bye\n"
    assert "NotFound" in _kubectl(server, "get", "pod", "by-hand", code=1)


def test_a_jobs_life_with_kubectl(server: Any, pods: Any) -> None:
    pod = pods.body("trap=bye", "print=ready", "sleep=20")
    spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed", "backoffLimit": 0}
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job-by-hand"}}
    text = json.dumps({**body, "spec": {**spec, "template": {"spec": pod["spec"]}}})
    assert "job.batch/job-by-hand created" in _kubectl(server, "create", "-f", "-", text=text)
    _kubectl(server, "wait", "--for=jsonpath={.status.ready}=2", "job/job-by-hand", "--timeout=10s")
    assert {"job-by-hand", "Running", "0/2"} <= set(_kubectl(server, "get", "jobs").split())
    described = _kubectl(server, "describe", "job", "job-by-hand")
    assert "Pods Statuses:" in described
    assert "SuccessfulCreate" in described
    assert _kubectl(server, "get", "pods", "-l", "job-name=job-by-hand", "-o", "name").count("pod/job-by-hand-") == 2
    assert "deleted" in _kubectl(server, "delete", "job", "job-by-hand")
    _kubectl(server, "wait", "--for=delete", "pod", "-l", "job-name=job-by-hand", "--timeout=10s")
    assert "NotFound" in _kubectl(server, "get", "job", "job-by-hand", code=1)


def test_kubectl_is_told_what_is_wrong(server: Any, pods: Any) -> None:
    body = pods.body("print=x", name="typo")
    body["spec"]["containers"][0]["comand"] = ["x"]
    told = _kubectl(server, "create", "-f", "-", text=json.dumps(body), code=1)
    assert 'unknown field "spec.containers[0].comand"' in told


def test_kubectl_finds_its_way_around(server: Any) -> None:
    assert "Server Version: v1." in _kubectl(server, "version")
    assert "pods" in _kubectl(server, "api-resources")
    assert "gpu" in _kubectl(server, "get", "nodes")
    assert "nvidia.com/gpu=true:NoSchedule" in _kubectl(server, "describe", "node", "gpu")
    assert "trainer" in _kubectl(server, "get", "serviceaccounts")
    assert "Active" in _kubectl(server, "get", "namespaces")
