"""The parts that need no server."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from local.images import Image
from local.kubernetes import (
    deletion,
    disruptions,
    environment,
    jobs,
    patches,
    quantities,
    references,
    schema,
    selectors,
    store,
    users,
)
from local.kubernetes.errors import ApiError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("500m", "0.5"),
        ("2Gi", 2**31),
        ("1.5G", 15 * 10**8),
        ("1e3", 1000),
        ("-1", -1),
        ("3E", 3 * 10**18),
        *((text, 2**63 - 1) for text in ("1e9999999999", "9" * 400, "1e30", "10E")),
        ("-8Ei", 1 - 2**63),
        *((text, "1e-9") for text in ("1e-9999999999", "0.0000000001")),
        ("0e9999999999", 0),
    ],
)
def test_quantities(text: str, value: Any) -> None:
    assert quantities.parse(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "1 Gi", "1GB", "one", "1gi", "--1", "1e", "0x10", " 1", "1\n", "\u0663"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="quantities must match"):
        quantities.parse(text)


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        ("", {}, True),
        ("a=1", {"a": "1"}, True),
        ("a==1", {"a": "2"}, False),
        ("a!=1", {}, True),
        ("a", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("a in (1, 2),b", {"a": "2", "b": "x"}, True),
        ("a in (1,2)", {}, False),
        ("a notin (1,2)", {}, True),
        ("example.com/a=1,!b", {"example.com/a": "1"}, True),
        ("a=", {"a": ""}, True),
    ],
)
def test_label_selectors(selector: str, labels: dict[str, str], matches: bool) -> None:
    assert selectors.parse_labels(selector)(labels) is matches


@pytest.mark.parametrize("selector", ["a b", "a in 1", "a>1", "=1", "a=1,,b", "a in (b!)"])
def test_what_is_no_label_selector(selector: str) -> None:
    with pytest.raises(ApiError) as refused:
        selectors.parse_labels(selector)
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("/data/x", "/real/x"),
        ("--out=/data", "--out=/real"),
        ("file:///data/x", "file:///real/x"),
        ("s3://bucket/data/x", "s3://bucket/data/x"),
        ("/database", "/database"),
        ("/data/deep/x", "/deeper/x"),
        ("/other/data", "/other/data"),
    ],
)
def test_mount_paths_are_replaced_where_they_are_whole(text: str, result: str) -> None:
    assert environment.substitute(text, {"/data": Path("/real"), "/data/deep": Path("/deeper")}) == result


@pytest.mark.parametrize(
    ("text", "result"), [("$(A)", "1"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("$A $", "$A $"), ("$(A)$(A)", "11")]
)
def test_expansion(text: str, result: str) -> None:
    assert environment.expand(text, {"A": "1"}) == result


@pytest.mark.parametrize(
    ("command", "args", "result"),
    [
        (None, None, ["entry", "cmd"]),
        (None, ["a"], ["entry", "a"]),
        (["c"], None, ["c"]),
        (["c"], ["a"], ["c", "a"]),
    ],
)
def test_command_lines(command: Any, args: Any, result: list[str]) -> None:
    image = Image(entrypoint=["entry"], cmd=["cmd"])
    assert environment.build_command({"command": command, "args": args}, image, {}, {}, {}) == result


def test_strategic_merge_knows_lists_by_their_keys() -> None:
    pod = {"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}]}}
    change = {"spec": {"containers": [{"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}]}}
    patched = patches.apply(patches.STRATEGIC_PATCH, pod, change)
    assert patched == {"spec": {"containers": [{"name": "a", "image": "2", "args": ["x"]}]}}
    assert patches.apply(patches.MERGE_PATCH, pod, change)["spec"] == change["spec"]
    assert pod == {"spec": {"containers": [{"name": "a", "image": "1", "args": ["x"]}, {"name": "b"}]}}


def test_changes_that_fell_out_of_the_window_are_expired() -> None:
    objects = store.Store(window=2)
    start = objects.version
    for number in range(4):
        objects.create("configmaps", {"metadata": {"namespace": "n", "name": f"c{number}"}})
    assert len(objects.changes_since(start + 2)) == 2
    with pytest.raises(ApiError) as expired:
        objects.changes_since(start + 1)
    assert expired.value.code == 410


def test_an_update_that_changes_nothing_is_no_write() -> None:
    objects = store.Store()
    objects.create("configmaps", {"metadata": {"namespace": "n", "name": "c"}})
    version = objects.version
    objects.update("configmaps", "n", "c", lambda obj: None)
    assert objects.version == version


def test_the_schema_is_that_of_the_installed_client() -> None:
    assert json.loads((Path(schema.__file__).parent / "schema.json").read_text()) == schema._generate()


@pytest.mark.parametrize(
    ("indexes", "text"),
    [([], ""), ([3], "3"), ([1, 0], "0,1"), ([0, 1, 2], "0-2"), ([0, 1, 2, 5, 7, 8], "0-2,5,7,8")],
)
def test_completed_indexes(indexes: list[int], text: str) -> None:
    assert jobs.ranges(indexes) == text


@pytest.mark.parametrize(("times", "seconds"), [(1, 10), (2, 20), (4, 80), (7, 600), (10_000, 600)])
def test_a_failed_pods_place_is_filled_ever_later(times: int, seconds: float) -> None:
    assert jobs.backoff(times, 10, 600) == seconds


def test_a_long_name_leaves_room_for_the_index() -> None:
    template = {"metadata": {}, "spec": {"containers": [{"name": "base"}]}}
    job = {"metadata": {"name": "j" * 60, "namespace": "n", "uid": "u"}, "spec": {"template": template}}
    pod = jobs.make_pod(job, 12)
    assert len(pod["metadata"]["name"]) == 63
    assert pod["metadata"]["generateName"].endswith("j-12-")
    assert pod["spec"]["hostname"] == "j" * 60 + "-12"
    assert "hostname" not in template["spec"], "the template is not changed"


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("a-0.workers:29500", "127.0.0.1:29500"),
        ("tcp://a-0.workers.n.svc.cluster.local", "tcp://127.0.0.1"),
        ("a-0.workers.n.svc,a-0.workers.n", "127.0.0.1,127.0.0.1"),
        ("a-0.workers.", "127.0.0.1"),
        ("a-0.workers.elsewhere", "a-0.workers.elsewhere"),
        ("aa-0.workers", "aa-0.workers"),
        ("a-0.workers-2", "a-0.workers-2"),
        ("a-0", "a-0"),
    ],
)
def test_names_of_pods(text: str, resolved: str) -> None:
    names = dict.fromkeys(("a-0.workers", "a-0.workers.n"), "127.0.0.1")
    assert environment.resolve_names(text, names) == resolved


FORMAT = "invalid reference format"


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("alpine", None),
        ("alpine:3.24.2", None),
        ("library/alpine", None),
        ("localhost/a/b__c:d", None),
        ("registry:5000/a-b/c.d", None),
        ("Registry.example.com/a", None),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com/mlplatform/trainer:0123456789ab", None),
        ("alpine@sha256:" + "0" * 64, None),
        ("alpine:3@sha256:" + "0" * 64, None),
        ("Not A Ref", f"{FORMAT}: repository name (library/Not A Ref) must be lowercase"),
        ("UPPER/case:tag:", FORMAT),
        ("docker.io/Alpine", f"{FORMAT}: repository name (Alpine) must be lowercase"),
        ("https://docker.io/nginx:latest", FORMAT),
        ("alpine:", FORMAT),
        ("alpine:" + "t" * 129, FORMAT),
        ("alpine@sha256:abc", FORMAT),
        ("-alpine", FORMAT),
        ("alpine/", FORMAT),
        ("", FORMAT),
        ("0" * 64, f"invalid repository name ({'0' * 64}), cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_image_references(reference: str, problem: str | None) -> None:
    assert references.problem(reference) == problem


@pytest.mark.parametrize(
    ("pod", "container", "user", "problem"),
    [
        ({}, {}, "", None),
        ({"runAsNonRoot": True}, {}, "10001:10001", None),
        ({"runAsNonRoot": True}, {"runAsNonRoot": False}, "", None),
        ({"runAsNonRoot": True, "runAsUser": 10001}, {}, "", None),
        ({"runAsNonRoot": True}, {}, "", "container has runAsNonRoot and image will run as root"),
        ({"runAsNonRoot": True}, {}, "0:0", "container has runAsNonRoot and image will run as root"),
        (
            {"runAsNonRoot": True},
            {},
            "app",
            "container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root",
        ),
        (
            {"runAsNonRoot": True, "runAsUser": 10001},
            {"runAsUser": 0},
            "10001",
            "container's runAsUser breaks non-root policy",
        ),
    ],
)
def test_who_may_run_where_root_may_not(
    pod: dict[str, Any], container: dict[str, Any], user: str, problem: str | None
) -> None:
    body = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"securityContext": pod}}
    told = users.problem(body, {"name": "base", "securityContext": container}, Image(user=user))
    assert told == (None if problem is None else f'{problem} (pod: "p_n(u)", container: base)')


@pytest.mark.parametrize(
    ("node", "phase", "wanted", "grace"),
    [
        ("cpu", "Running", None, 30),
        ("cpu", "Running", 5, 5),
        ("cpu", "Running", 0, 0),
        ("cpu", "Running", -7, 1),
        ("cpu", "Succeeded", 5, 0),
        ("", "Pending", None, 0),
    ],
)
def test_the_grace_of_a_deletion(node: str, phase: str, wanted: int | None, grace: int) -> None:
    pod = {"spec": {"terminationGracePeriodSeconds": 30, "nodeName": node}, "status": {"phase": phase}}
    assert deletion.grace_of(pod, wanted) == grace


@pytest.mark.parametrize(
    ("tolerations", "seconds"),
    [
        ([], 0.0),
        ([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 300}], 300.0),
        ([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "tolerationSeconds": 300}], 0.0),
        ([{"operator": "Exists"}], None),
        ([{"operator": "Exists"}, {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 7}], 7.0),
    ],
)
def test_how_long_a_lost_node_is_tolerated(tolerations: list[dict[str, Any]], seconds: float | None) -> None:
    assert disruptions.seconds_tolerated({"spec": {"tolerations": tolerations}}) == seconds
