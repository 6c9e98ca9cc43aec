"""Pods from creation to end, seen by the official client."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from typing import Any

import psutil
import pytest
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream
from kubernetes.stream.ws_client import ERROR_CHANNEL


def _state(pod: Any, index: int = 0) -> Any:
    return pod["status"]["containerStatuses"][index]["state"]


def _alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_pod_that_succeeds(pods: Any) -> None:
    name = pods.create("print=hello", "burn=0.1")
    pod = pods.finish(name)
    assert pod["status"]["phase"] == "Succeeded"
    assert _state(pod)["terminated"]["exitCode"] == 0
    assert _state(pod)["terminated"]["reason"] == "Completed"
    assert pods.log(name) == "hello\n"
    assert [event["reason"] for event in pods.events(name)] == ["Scheduled", "Pulled", "Created", "Started"]
    entry = pods.history(name)
    assert entry["phase"] == "Succeeded"
    assert entry["exit_code"] == 0
    assert entry["created"] <= entry["scheduled"] <= entry["started"] <= entry["finished"]
    assert entry["containers"][0]["cpu_seconds"] >= 0.1


def test_a_pod_that_fails_shows_the_end_of_its_log(pods: Any) -> None:
    container = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    name = pods.create("print=" + "x" * 3000, "error=the last line", "exit=64", container=container)
    pod = pods.finish(name)
    terminated = _state(pod)["terminated"]
    assert pod["status"]["phase"] == "Failed"
    assert (terminated["exitCode"], terminated["reason"]) == (64, "Error")
    assert terminated["message"].endswith("x\nthe last line\n")
    assert len(terminated["message"]) == 2048


def test_a_command_that_does_not_exist(pods: Any) -> None:
    name = pods.create(container={"command": ["/no/such/program"], "args": []})
    terminated = _state(pods.finish(name))["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (128, "StartError")
    assert "/no/such/program" in terminated["message"]


def test_command_and_args_follow_the_rules_of_the_image(pods: Any) -> None:
    default = pods.create(container={"args": None})
    replaced = pods.create(
        container={
            "command": ["/bin/sh", "-c", "echo $0 $1 $PLACE"],
            "args": ["$(WHO)", "$$(WHO)"],
            "env": [{"name": "WHO", "value": "me"}, {"name": "PLACE", "value": "at-$(WHO)"}],
        }
    )
    pods.finish(default)
    pods.finish(replaced)
    assert pods.log(default) == "default\n"
    assert pods.log(replaced) == "me $(WHO) at-me\n"


def test_the_environment_is_what_the_pod_says_and_nothing_of_the_host(pods: Any, core: Any) -> None:
    core.create_namespaced_config_map(pods.namespace, {"metadata": {"name": "settings"}, "data": {"mode": "fast"}})
    core.create_namespaced_secret(pods.namespace, {"metadata": {"name": "keys"}, "stringData": {"API_KEY": "s3cret"}})
    env = [
        {"name": "FROM", "value": "pod"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "CASE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['case']"}}},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "mode"}}},
        {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "none", "optional": True}}},
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    ]
    container = {"env": env, "envFrom": [{"secretRef": {"name": "keys"}}], "resources": {"limits": {"cpu": "1500m"}}}
    name = pods.create("env", container=container, labels={"case": "environment"})
    pods.finish(name)
    seen = json.loads(pods.log(name))
    assert "SECRET_OF_THE_HOST" not in seen
    assert "ABSENT" not in seen
    assert seen["HOME"] != os.environ.get("HOME")
    expected = {
        "FROM": "pod",
        "POD": name,
        "CASE": "environment",
        "NODE": "cpu",
        "MODE": "fast",
        "API_KEY": "s3cret",
        "CPUS": "2",
        "AWS_REGION": "us-east-1",
        "FROM_NODE": "yes",
        "HOSTNAME": name,
        "NVIDIA_VISIBLE_DEVICES": "void",
    }
    assert {key: seen.get(key) for key in expected} == expected


def test_a_missing_config_map_is_waited_for(pods: Any, core: Any) -> None:
    env = [{"name": "LATE", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "value"}}}]
    name = pods.create("env", container={"env": env})
    pods.wait(
        name,
        lambda p: (
            _state(p).get("waiting", {}).get("reason") == "CreateContainerConfigError"
            if p["status"].get("containerStatuses")
            else False
        ),
    )
    core.create_namespaced_config_map(pods.namespace, {"metadata": {"name": "late"}, "data": {"value": "here"}})
    assert pods.finish(name)["status"]["phase"] == "Succeeded"
    assert json.loads(pods.log(name))["LATE"] == "here"


def test_an_image_that_runs_as_root_never_starts_where_root_may_not(pods: Any) -> None:
    name = pods.create("print=never", securityContext={"runAsNonRoot": True})

    def refused(pod: Any) -> bool:
        statuses = pod["status"].get("containerStatuses", [])
        return bool(statuses and statuses[0]["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError")

    pod = pods.wait(name, refused)
    message = (
        "container has runAsNonRoot and image will run as root "
        f'(pod: "{name}_{pods.namespace}({pod["metadata"]["uid"]})", container: base)'
    )
    assert _state(pod)["waiting"]["message"] == message
    assert f"Error: {message}" in [event["message"] for event in pods.events(name) if event["reason"] == "Failed"]
    assert pods.finish(pods.create("exit=0", securityContext={"runAsNonRoot": True, "runAsUser": 1000}))


def test_volumes_stand_where_the_mount_paths_say(pods: Any, core: Any) -> None:
    core.create_namespaced_config_map(
        pods.namespace, {"metadata": {"name": "files"}, "data": {"a.txt": "from a map\n"}}
    )
    volumes = [{"name": "scratch", "emptyDir": {}}, {"name": "files", "configMap": {"name": "files"}}]
    mounts = [{"name": "scratch", "mountPath": "/scratch/dir"}, {"name": "files", "mountPath": "/etc/files"}]
    init = {
        "name": "first",
        "image": pods.image,
        "args": ["write=/scratch/dir/b.txt:from init", "print=init done"],
        "volumeMounts": mounts,
    }
    name = pods.create(
        "read=/etc/files/a.txt",
        "read=$(FILE)",
        "print=s3://bucket/scratch/dir/x",
        container={"volumeMounts": mounts, "env": [{"name": "FILE", "value": "/scratch/dir/b.txt"}]},
        volumes=volumes,
        initContainers=[init],
    )
    pod = pods.finish(name)
    assert pod["status"]["phase"] == "Succeeded", pods.log(name)
    assert pods.log(name) == "from a map\nfrom inits3://bucket/scratch/dir/x\n"
    assert pods.log(name, container="first") == "init done\n"
    assert pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


def test_a_failing_init_container_fails_the_pod(pods: Any) -> None:
    init = {"name": "first", "image": pods.image, "args": ["exit=3"]}
    name = pods.create("print=never", initContainers=[init])
    pod = pods.finish(name)
    assert pod["status"]["phase"] == "Failed"
    assert _state(pod) == {"waiting": {"reason": "PodInitializing"}}
    assert "is waiting to start: PodInitializing" in pods.log(name)


def test_logs_can_be_followed_and_cut(pods: Any, core: Any) -> None:
    name = pods.create("print=one", "sleep=1.2", "print=two", "print=three")
    pods.running(name, printed="one")
    began = time.monotonic()
    stream_ = core.read_namespaced_pod_log(
        name, pods.namespace, container="base", follow=True, timestamps=True, _preload_content=False
    )
    lines = b"".join(stream_.stream()).decode().splitlines()
    assert time.monotonic() - began > 0.5
    assert [line.split(" ", 1)[1] for line in lines] == ["one", "two", "three"]
    assert all(len(line.split(" ")[0]) == len("2026-11-22T04:07:37.787123456Z") for line in lines)
    # The log ends after the status says so, hence no operator reconnects.
    assert "terminated" in _state(pods.get(name))
    assert pods.log(name, tailLines=1) == "three\n"
    assert pods.log(name, limitBytes=5) == "one\nt"
    assert pods.log(name, sinceTime=lines[1].split(" ")[0][:26] + "Z") == "two\nthree\n"
    assert pods.log(name, sinceSeconds=3600) == "one\ntwo\nthree\n"


def test_logs_that_cannot_be_read(pods: Any, server: Any) -> None:
    name = pods.create("sleep=5", nodeSelector={"no": "such-node"})
    path = f"/api/v1/namespaces/{pods.namespace}/pods/{name}/log"
    assert server.http("GET", path).status_code == 204
    started = pods.create("print=x")
    pods.finish(started)
    path = f"/api/v1/namespaces/{pods.namespace}/pods/{started}/log"
    for query, code in (
        ("container=none", 400),
        ("previous=true", 400),
        ("tailLines=-1", 422),
        ("follow=maybe", 400),
        ("sinceSeconds=x", 400),
    ):
        assert server.http("GET", f"{path}?{query}").status_code == code, query


def test_exec_runs_beside_the_container(pods: Any, core: Any) -> None:
    name = pods.create("sleep=20", container={"env": [{"name": "COLOUR", "value": "blue"}]})
    pods.running(name)

    def run(command: list[str], **options: Any) -> Any:
        return stream(
            core.connect_get_namespaced_pod_exec,
            name,
            pods.namespace,
            container="base",
            command=command,
            stdout=True,
            stderr=True,
            stdin=False,
            tty=False,
            _preload_content=False,
            **options,
        )

    done = run(["/bin/sh", "-c", "echo out $COLOUR; echo err >&2; exit 7"])
    done.run_forever(timeout=10)
    assert done.read_stdout() == "out blue\n"
    assert done.read_stderr() == "err\n"
    assert done.returncode == 7
    for command, problem in (
        ("/no/such/command", "stat /no/such/command: no such file or directory"),
        ("no-such-command", "executable file not found in $PATH"),
        ("/etc/passwd", "permission denied"),
    ):
        refused = run([command])
        refused.run_forever(timeout=10)
        status = json.loads(refused.read_channel(ERROR_CHANNEL))
        assert (status["status"], status["reason"], status["code"]) == ("Failure", "InternalError", 500)
        assert status["message"].startswith(
            "Internal error occurred: error executing command in container: failed to exec in container: "
        )
        assert status["message"].endswith(f'exec: "{command}": {problem}: unknown')
        assert "reason" not in status["details"]["causes"][0], "there is no exit code"


def test_a_command_ends_with_its_client(pods: Any, core: Any, server: Any) -> None:
    name = pods.create("sleep=20")
    pods.running(name)
    before = set(psutil.Process(server.process.pid).children())
    command = ["sleep", "29.5"]
    session = stream(
        core.connect_get_namespaced_pod_exec, name, pods.namespace, command=command, stdout=True, _preload_content=False
    )

    def running() -> bool:  # a zombie counts: it has to be reaped too
        return bool(set(psutil.Process(server.process.pid).children()) - before)

    deadline = time.monotonic() + 5
    while not running():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    session.sock.sock.close()
    while running():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_exec_needs_a_running_container(pods: Any, server: Any) -> None:
    name = pods.create("exit=0")
    pods.finish(name)
    unplaced = pods.create(nodeSelector={"no": "such-node"})
    for pod, query, code in (
        (name, "command=true&stdout=1", 400),
        (name, "command=true&stdout=1&container=none", 400),
        (unplaced, "command=true&stdout=1", 400),
        ("no-such-pod", "command=true&stdout=1", 404),
    ):
        path = f"/api/v1/namespaces/{pods.namespace}/pods/{pod}/exec?{query}"
        assert server.http("GET", path).status_code == code, query


def _xcom_pod(pods: Any, *words: str) -> str:
    mount = [{"name": "xcom", "mountPath": "/airflow/xcom"}]
    body = pods.body(*words, container={"volumeMounts": mount}, volumes=[{"name": "xcom", "emptyDir": {}}])
    command = ["sh", "-c", 'trap "exit 0" INT; while true; do sleep 1; done;']
    body["spec"]["containers"].append(
        {"name": "airflow-xcom-sidecar", "image": "alpine:3.24.2", "command": command, "volumeMounts": mount}
    )
    return str(pods.create_body(body))


def test_the_xcom_sidecar_is_answered_for_and_never_run(pods: Any, core: Any) -> None:
    name = _xcom_pod(pods, 'write=/airflow/xcom/return.json:{"rows": 3}')
    pods.wait(name, lambda p: p["status"]["phase"] == "Running" and "terminated" in _state(p))

    def run(command: list[str], *, stdin: bool = False) -> Any:
        return stream(
            core.connect_get_namespaced_pod_exec,
            name,
            pods.namespace,
            container="airflow-xcom-sidecar",
            command=command,
            stdin=stdin,
            stdout=True,
            stderr=True,
            tty=False,
            _preload_content=False,
        )

    file = "/airflow/xcom/return.json"
    read = f"if [ -s {file} ]; then cat {file}; else echo __airflow_xcom_result_empty__; fi"
    reading = run(["/bin/sh", "-c", read])
    reading.run_forever(timeout=10)
    assert json.loads(reading.read_all()) == {"rows": 3}
    refused = run(["/bin/sh", "-c", "touch /tmp/should-not-exist-anywhere"])
    refused.run_forever(timeout=10)
    assert refused.returncode == 126
    stopping = run(["/bin/sh"], stdin=True)
    stopping.write_stdin("kill -2 $(pgrep -u $(id -u) -f 'sh')\n")
    stopping.run_forever(timeout=10)
    assert stopping.read_all() == ""
    pod = pods.finish(name)
    assert pod["status"]["phase"] == "Succeeded"
    assert _state(pod, 1)["terminated"]["exitCode"] == 0


def test_an_empty_xcom_is_told(pods: Any, core: Any) -> None:
    name = _xcom_pod(pods, "print=nothing")
    pods.wait(name, lambda p: p["status"]["phase"] == "Running" and "terminated" in _state(p))
    file = "/airflow/xcom/return.json"
    read = f"if [ -s {file} ]; then cat {file}; else echo __airflow_xcom_result_empty__; fi"
    answer = stream(
        core.connect_get_namespaced_pod_exec,
        name,
        pods.namespace,
        container="airflow-xcom-sidecar",
        command=["/bin/sh", "-c", read],
        stdout=True,
        stderr=True,
    )
    assert answer == "__airflow_xcom_result_empty__\n"


def test_a_pod_is_found_again_by_the_operators_selector(pods: Any, core: Any) -> None:
    labels = {"dag_id": "d", "task_id": "t", "run_id": "r1", "kubernetes_pod_operator": "True", "try_number": "1"}
    name = pods.create("sleep=20", labels=labels)
    other = pods.create("sleep=20", labels={**labels, "already_checked": "True"})
    worker = pods.create("sleep=20", labels={**labels, "airflow-worker": "x"})
    base = "dag_id=d,kubernetes_pod_operator=True,run_id=r1,task_id=t"

    def found(selector: str) -> set[str]:
        return {pod.metadata.name for pod in core.list_namespaced_pod(pods.namespace, label_selector=selector).items}

    assert found(f"{base},already_checked!=True,!airflow-worker") == {name}
    assert found(base) == {name, other, worker}
    assert found(f"{base},already_checked") == {other}
    assert found(f"{base},already_checked in (True, False)") == {other}
    assert found(f"{base},already_checked notin (True),airflow-worker notin (x)") == {name}
    core.patch_namespaced_pod(name, pods.namespace, {"metadata": {"labels": {"already_checked": "True"}}})
    assert found(f"{base},already_checked!=True,!airflow-worker") == set()
    by_field = core.list_namespaced_pod(pods.namespace, field_selector=f"metadata.name={name},status.phase!=Failed")
    assert [pod.metadata.name for pod in by_field.items] == [name]


def test_deletion_gives_the_pod_its_grace(pods: Any, core: Any) -> None:
    name = pods.create("trap=saved and gone", "print=ready", "sleep=30")
    pods.running(name, printed="ready")
    text: list[str] = []
    following = core.read_namespaced_pod_log(name, pods.namespace, follow=True, _preload_content=False)
    reader = threading.Thread(target=lambda: text.append(b"".join(following.stream()).decode()))
    reader.start()
    deleted = core.delete_namespaced_pod(name, pods.namespace)
    assert deleted.metadata.deletion_timestamp is not None
    assert deleted.metadata.deletion_grace_period_seconds == 5
    pods.gone(name, seconds=4)
    reader.join(5)
    assert text == ["ready\nsaved and gone\n"]
    assert pods.history(name)["exit_code"] == 143


def test_a_pod_that_ignores_sigterm_is_killed_after_the_grace(pods: Any, core: Any) -> None:
    name = pods.create("ignore", "print=ready", "sleep=30")
    pods.running(name, printed="ready")
    began = time.monotonic()
    core.delete_namespaced_pod(name, pods.namespace, grace_period_seconds=1)
    pods.gone(name)
    assert 0.9 < time.monotonic() - began < 4
    assert pods.history(name)["exit_code"] == 137


def test_what_a_container_leaves_behind_is_killed(pods: Any) -> None:
    name = pods.create("child=60", "sleep=0.6", "exit=0")
    pods.finish(name)
    child = int(pods.log(name))
    deadline = time.monotonic() + 3
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def test_the_deadline_ends_a_pod(pods: Any) -> None:
    name = pods.create("trap=out of time", "print=ready", "sleep=30", activeDeadlineSeconds=1)
    pod = pods.finish(name)
    assert pod["status"]["reason"] == "DeadlineExceeded"
    assert pods.log(name) == "ready\nout of time\n"
    assert "DeadlineExceeded" in [event["reason"] for event in pods.events(name)]


def test_memory_over_the_limit_is_an_oom_kill(pods: Any) -> None:
    name = pods.create("allocate=150", "sleep=30", container={"resources": {"limits": {"memory": "100Mi"}}})
    pod = pods.finish(name)
    terminated = _state(pod)["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("OOMKilled", 137)
    assert pods.history(name)["containers"][0]["peak_rss_bytes"] > 100 * 2**20


def test_the_second_container_keeps_the_pod_running(pods: Any) -> None:
    body = pods.body("print=base")
    body["spec"]["containers"].append({"name": "other", "image": pods.image, "args": ["sleep=0.8", "exit=2"]})
    name = pods.create_body(body)
    pods.wait(name, lambda p: p["status"]["phase"] == "Running" and "terminated" in _state(p))
    pod = pods.finish(name)
    assert pod["status"]["phase"] == "Failed"
    assert [_state(pod, index)["terminated"]["exitCode"] for index in (0, 1)] == [0, 2]


def test_an_eviction_request_deletes_gracefully(pods: Any, core: Any) -> None:
    name = pods.create("trap=drained", "print=ready", "sleep=30")
    pods.running(name, printed="ready")
    core.create_namespaced_pod_eviction(
        name, pods.namespace, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    )
    pods.gone(name)


def test_secrets_are_stored_as_the_api_stores_them(pods: Any, core: Any) -> None:
    secret = core.create_namespaced_secret(pods.namespace, {"metadata": {"name": "plain"}, "stringData": {"a": "b"}})
    assert secret.data == {"a": base64.b64encode(b"b").decode()}
    assert secret.type == "Opaque"
    core.delete_namespaced_secret("plain", pods.namespace)
    with pytest.raises(ApiException, match="404"):
        core.read_namespaced_secret("plain", pods.namespace)
