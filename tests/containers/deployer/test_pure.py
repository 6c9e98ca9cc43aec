"""Names, archive, smoke check, and the rollout's decisions against a scripted API."""

from __future__ import annotations

import copy
import gzip
import json
import os
import re
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from helpers import IMAGE, ROWS, make_config, make_examples

from deployer import rollout as rollout_module
from deployer import variants
from deployer.package import find_model, pack
from deployer.plan import Plan, made_for, make_plan, make_tags, resource_name
from deployer.rollout import Intent, Rollout, RolloutError
from deployer.sagemaker_api import EndpointState, LiveVariant
from deployer.smoke import SmokeError, check_answer, make_request
from deployer.strategy import Strategy, choose
from deployer.variants import Counted, Traffic, add_up, table
from deployer.verify import check_live, weights_to_change
from mlplatform.documents.run import Candidate
from mlplatform.errors import NonRetryableError

CANDIDATE = Candidate(version="7", run_id="r", model_digest="ab" * 32)


def plan(**deployment: Any) -> Plan:
    return make_plan(make_config("flights-late", CANDIDATE, "http://mlflow", **deployment))


def test_names_say_what_they_name_and_are_stable() -> None:
    first = plan()
    assert re.fullmatch(r"flights-late-v7-abababab-[0-9a-f]{8}", first.candidate.model_name)
    assert re.fullmatch(r"flights-late-v7-abababab-[0-9a-f]{8}", first.config_name)
    assert first.candidate.model_data_url == "s3://artifacts/models/flights-late/7/model.tar.gz"
    assert plan() == first
    other = plan(instance_type="ml.m5.xlarge")
    assert other.candidate.model_name == first.candidate.model_name
    assert other.config_name != first.config_name
    assert plan(serving_image=IMAGE[:-1] + "2").candidate.model_name != first.candidate.model_name
    assert first.tags["run-key"] == "0123456789abcdef0123"
    assert (first.tags["ManagedBy"], first.tags["Environment"]) == ("deployer", "unknown")
    assert [made.tags["Project"] for made in (first, plan(project="acme-ml"))] == ["ml-platform", "acme-ml"]
    environment = {"MODEL_VERSION": "7", "MODEL_DIGEST": CANDIDATE.model_digest}
    assert first.candidate.model["PrimaryContainer"]["Environment"] == environment


def test_names_begin_with_the_endpoints_name() -> None:
    # The deployer's rights, and the removal of what it made, go by that.
    made = plan(endpoint_name="ml-platform-dev-flights")
    assert made.candidate.model_name.startswith("ml-platform-dev-flights-v7-")
    assert made.config_name.startswith("ml-platform-dev-flights-v7-")


def test_long_names_are_cut() -> None:
    name = resource_name("a" * 32 + "-" + "b" * 40, "v7-abababab-01234567")
    assert len(name) == 62
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name)
    assert re.fullmatch(r"a{32}-[0-9a-f]{8}-v7-abababab-01234567", name)
    assert name != resource_name("a" * 32 + "-" + "b" * 39, "v7-abababab-01234567")


def test_tags_are_what_aws_takes() -> None:
    tags = make_tags({"aws:x": "1", "note": "a\nb;c" + "é" * 300, **{f"k{i}": "v" for i in range(60)}})
    assert len(tags) == 50
    assert make_tags({"aws:x": "1", "note": "a\nb;cé"}) == {"note": "a_b_cé"}
    # As Terraform tags what it makes (run "a_long_owner" in terraform/modules/serving/tests).
    assert make_tags({"owner": "o" * 300})["owner"] == "o" * 247 + "-0d704c10"


def test_what_is_missing_is_named() -> None:
    config = make_config("flights", CANDIDATE, "http://mlflow")
    for part in ("candidate", "deployment"):
        with pytest.raises(NonRetryableError, match=part) as refused:
            make_plan(config.model_copy(update={part: None}))
        assert refused.value.kind == "bad-config"


def test_the_archive_is_deterministic(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "sub").mkdir(parents=True)
    for folder, names in (("one", ["b", "sub/a", "ü"]), ("two", ["ü", "sub/a", "b"])):
        for name in names:
            (tmp_path / folder / name).write_text(f"content of {name}")
    os.utime(tmp_path / "two" / "b", (1, 1))
    (tmp_path / "two" / "b").chmod(0o600)
    first, second = (pack(tmp_path / folder, tmp_path / f"{folder}.tar.gz").read_bytes() for folder in ("one", "two"))
    assert first == second
    with tarfile.open(tmp_path / "one.tar.gz") as tar:
        assert tar.getnames() == ["b", "sub/a", "ü"]
        assert all(member.mtime == 0 and member.uid == 0 for member in tar.getmembers())
    assert gzip.decompress(first)


def test_the_saved_model_is_found_and_checked(tmp_path: Path) -> None:
    with pytest.raises(NonRetryableError, match=r"expected one manifest\.json .* found 0"):
        find_model(tmp_path, "", "models:/m/1")
    (tmp_path / "modelformat").mkdir()
    (tmp_path / "modelformat" / "manifest.json").write_text("{}")
    with pytest.raises(NonRetryableError, match="models:/m/1: its files have the digest"):
        find_model(tmp_path, "0" * 64, "models:/m/1")


def answer(predictions: list[Any], version: str | None = "7", digest: str = "d") -> bytes:
    return json.dumps({"predictions": predictions, "model": {"version": version, "digest": digest}}).encode()


def test_smoke() -> None:
    examples = make_examples([0.1, 0.2, 0.3])
    assert json.loads(make_request(examples)) == {"instances": ROWS}
    assert check_answer(answer([0.1, 0.2, 0.30005]), examples, "7", "d", "binary") == pytest.approx(5e-5)


CLASSES = [[0.1, 0.2, 0.7], [0.5, 0.5, 0.0], [0.0, 0.1, 0.9]]


def test_smoke_of_several_classes() -> None:
    body = answer([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0], [0.00004, 0.1, 0.89996]])
    assert check_answer(body, make_examples(CLASSES), "7", "d", "multiclass") == pytest.approx(4e-5)


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([CLASSES[0], CLASSES[1], [0.1, 0.0, 0.9]], "row 2: predicted 0.1, expected 0"),
        ([CLASSES[0], CLASSES[1], [0.0, 0.1]], r"row 2: the prediction is \[0.0, 0.1\], expected \[0.0, 0.1, 0.9\]"),
        ([CLASSES[0], CLASSES[1], 0.9], r"row 2: the prediction is 0.9, expected \["),
        ([CLASSES[0], CLASSES[1], [0.0, 0.1, None]], r"row 2: the prediction is \[0.0, 0.1, None\]$"),
        ([CLASSES[0], CLASSES[1], [0, True, 0.9]], r"row 2: the prediction is \[0, True, 0.9\]$"),
    ],
)
def test_smoke_of_several_classes_refuses(predictions: list[Any], message: str) -> None:
    with pytest.raises(SmokeError, match=message):
        check_answer(answer(predictions), make_examples(CLASSES), "7", "d", "multiclass")


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_smoke_of_numbers_is_relative(scale: float) -> None:
    examples = make_examples([scale * number for number in (1.0, -20.0, 0.0)])
    good = answer([scale * number for number in (1.001, -20.001, 0.0)])
    assert check_answer(good, examples, "7", "d", "regression") == pytest.approx(0.001 * scale)
    with pytest.raises(SmokeError, match="row 0: predicted"):
        check_answer(answer([scale * number for number in (1.01, -20.0, 0.0)]), examples, "7", "d", "regression")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "not a prediction"),
        (b'{"predictions": [1]}', "not a prediction"),
        (b"[]", "not a prediction"),
        (answer([0.1, 0.2, 0.3], version="6"), "version 6 .* answered, not version 7"),
        (answer([0.1, 0.2, 0.3], digest="other"), "digest other"),
        (answer([0.1, 0.2]), "does not have 3 predictions"),
        (answer([0.1, 0.2, 0.3002]), "row 2: predicted 0.3002, expected 0.3"),
        (answer([0.1, None, 0.3]), "row 1: the prediction is None"),
        (answer([0.1, float("nan"), 0.3]), "row 1: the prediction is nan"),
    ],
)
def test_smoke_refuses(body: bytes, message: str) -> None:
    with pytest.raises(SmokeError, match=message):
        check_answer(body, make_examples([0.1, 0.2, 0.3]), "7", "d", "binary")


# --- Rollout ----------------------------------------------------------------------------------

OLD = "old-config"
NEW = plan().config_name
ALL_AT_ONCE = Strategy("all-at-once")


class Script:
    """An API that goes through given states; what is asked of it is written down."""

    def __init__(self, *states: EndpointState | None) -> None:
        self.states = list(states)
        self.calls: list[str] = []

    def endpoint(self, name: str) -> EndpointState | None:
        assert self.states, f"nothing more to say after {self.calls}"
        return self.states.pop(0)

    def create_endpoint(self, plan: Plan, config_name: str) -> None:
        self.calls.append(f"create {config_name}")

    def update_endpoint(self, name: str, config_name: str, request: Any = None, *, keep_counts: bool = False) -> None:
        self.calls.append(f"update {config_name}")

    def update_weights(self, name: str, weights: Any) -> None:
        self.calls.append(f"weights {weights}")

    def delete_endpoint(self, name: str) -> None:
        self.calls.append("delete")

    def is_scaled(self, name: str, variant: str) -> bool:
        return False

    def rollout(self) -> Rollout:
        api: Any = self
        return Rollout(api, plan(), lambda: None, longest_pause=0)


def state(status: str, config: str = OLD, reason: str | None = None) -> EndpointState:
    return EndpointState(status, config, reason, (LiveVariant("primary", 1.0, 1),))


def intent(previous: str | None = OLD, **changes: Any) -> Intent:
    noted = Intent(
        started_at=datetime.now(UTC),
        endpoint_name="flights-late",
        model_version="7",
        config_name=NEW,
        previous_config_name=previous,
        previous_weights={"primary": 1.0},
        champion="6",
        previous="5",
        strategy="all-at-once",
        strategy_reason="",
        alarms=[],
    )
    return noted.model_copy(update=changes)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(rollout_module.time, "sleep", lambda _: None)


def change(script: Script) -> Rollout:
    rollout = script.rollout()
    rollout.start(rollout.look(), ALL_AT_ONCE)
    return rollout


def test_update_waits_for_another_change_first() -> None:
    script = Script(state("Updating"), state("SystemUpdating"), state("InService"), state("InService", NEW))
    change(script).finish()
    assert script.calls == [f"update {NEW}"]


@pytest.mark.parametrize("status", ["UpdateRollbackFailed", "OutOfService"])
def test_an_endpoint_nobody_can_use_is_left_to_people(status: str) -> None:
    script = Script(state(status, reason="mixed"))
    with pytest.raises(NonRetryableError, match=f"{status} \\(mixed\\); nothing was changed"):
        change(script)
    assert script.calls == []


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (
            state("InService", OLD, "did not pass the ping health check"),
            "rolled the update back to old-config: did not",
        ),
        (state("Failed", NEW, "no image"), "the endpoint is Failed: no image"),
        (state("UpdateRollbackFailed", NEW), "UpdateRollbackFailed: SageMaker gives no reason"),
        (None, "was deleted"),
    ],
)
def test_what_did_not_work_is_an_error(end: EndpointState | None, message: str) -> None:
    rollout = change(Script(state("InService"), state("Updating"), end))
    with pytest.raises(RolloutError, match=message):
        rollout.finish()


def test_a_change_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(*[state("Updating")] * 5)
    clock = iter(range(0, 100_000, 1000))
    monkeypatch.setattr(rollout_module.time, "monotonic", lambda: next(clock))
    with pytest.raises(TimeoutError, match="still Updating after 1860 s"):
        script.rollout().finish()


@pytest.mark.parametrize(
    ("before", "states", "calls", "sentence"),
    [
        (OLD, [state("InService", NEW), state("InService")], [f"update {OLD}"], "runs old-config again"),
        (OLD, [state("InService"), state("InService")], [], "runs old-config again"),
        (OLD, [state("Failed", NEW), None, state("InService")], ["delete", f"create {OLD}"], "runs old-config"),
        (OLD, [None, state("InService")], [f"create {OLD}"], "runs old-config"),
        (None, [state("InService", NEW), state("Deleting"), None], ["delete"], "nothing is live"),
        (None, [None], [], "nothing is live"),
    ],
)
def test_restore(before: str | None, states: list[EndpointState | None], calls: list[str], sentence: str) -> None:
    script = Script(*states)
    assert sentence in script.rollout().restore(intent(before))
    assert script.calls == calls


def test_a_restore_that_fails_says_so() -> None:
    script = Script(state("InService", NEW), state("Updating"), state("InService", NEW, "broken"))
    with pytest.raises(RolloutError, match="restoring old-config failed"):
        script.rollout().restore(intent())


def test_what_was_live_already_is_not_guessed_at() -> None:
    script = Script(state("InService", NEW))
    assert "what it ran before is not known" in script.rollout().restore(intent(NEW, strategy="none"))
    assert script.calls == []


@pytest.mark.parametrize(
    ("aliases", "live", "believed"),
    [
        (("6", "5"), OLD, True),
        (("6", "5"), NEW, True),
        (("6", "6"), NEW, True),
        (("7", "6"), NEW, True),
        (("6", "5"), None, True),
        # Between two attempts somebody else deployed: what is live now is what to put back.
        (("6", "5"), "newer", False),
        (("8", "6"), OLD, False),
    ],
)
def test_a_note_is_believed_unless_somebody_else_deployed(
    aliases: tuple[str, str], live: str | None, believed: bool
) -> None:
    noted = intent(endpoint_name=plan().endpoint_name)
    assert noted.is_of(plan(), *aliases, live) is believed
    assert not noted.model_copy(update={"ended": True}).is_of(plan(), *aliases, live)


# --- Verification -----------------------------------------------------------------------------


def test_every_difference_is_named() -> None:
    wanted = plan()
    live = EndpointState("InService", wanted.config_name, None, (LiveVariant("primary", 1.0, 1, ("other:image",)),))
    config = copy.deepcopy(wanted.config)
    config["ProductionVariants"][0]["InstanceType"] = "ml.t2.medium"
    config["KmsKeyId"] = "somebody's"
    model = {**wanted.candidate.model, "EnableNetworkIsolation": False}
    found = " | ".join(check_live(wanted, live, config, {wanted.candidate.model_name: model}))
    assert "configuration.ProductionVariants[0].InstanceType is 'ml.t2.medium' instead of 'ml.m5.large'" in found
    assert 'KmsKeyId is "somebody\'s" instead of nothing' in found
    assert "EnableNetworkIsolation is False instead of True" in found
    assert "runs the image other:image" in found
    assert "does not exist any more" in check_live(wanted, live, None, {})[0]
    right = EndpointState("InService", wanted.config_name, None, (LiveVariant("primary", 1.0, 1),))
    assert check_live(wanted, right, wanted.config, {wanted.candidate.model_name: wanted.candidate.model}) == []


def test_only_shares_of_weights_count() -> None:
    experiment = {"version": "8", "run_id": "r", "model_digest": "cd" * 32, "weight": 0.25}
    wanted = plan(experiment=experiment)
    live = (LiveVariant("primary", 3.0, 1), LiveVariant("challenger", 1.0, 1))
    assert weights_to_change(wanted, EndpointState("InService", NEW, None, live)) == {}
    equal = (LiveVariant("primary", 1.0, 1), LiveVariant("challenger", 1.0, 1))
    assert weights_to_change(wanted, EndpointState("InService", NEW, None, equal)) == wanted.weights
    assert plan(experiment={**experiment, "weight": 0.5}).config_name == wanted.config_name


# --- Strategy and cleaning up -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("rollout", "count", "size", "steps"),
    [
        ({"strategy": "canary", "canary_percent": 10}, 2, 1, "CanarySize"),
        ({"strategy": "canary", "canary_percent": 50}, 3, 1, "CanarySize"),
        ({"strategy": "canary", "canary_percent": 20}, 10, 2, "CanarySize"),
        ({"strategy": "linear", "step_percent": 25}, 8, 2, "LinearStepSize"),
    ],
)
def test_sizes_are_whole_instances_and_half_at_most(rollout: dict[str, Any], count: int, size: int, steps: str) -> None:
    config = make_config("flights-late", CANDIDATE, "http://mlflow", rollout=rollout, instance_count=count)
    assert config.deployment is not None
    live = EndpointState("InService", OLD, None, (LiveVariant("primary", 1.0, count),))
    chosen = choose(make_plan(config), config.deployment, live, scaled=False, champion="6")
    assert chosen.request is not None
    routing = chosen.request["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing[steps] == {"Type": "INSTANCE_COUNT", "Value": size}


def test_steps_that_take_too_long_are_refused() -> None:
    rollout = {"strategy": "linear", "step_percent": 10, "bake_seconds": 300, "maximum_seconds": 900}
    config = make_config("flights-late", CANDIDATE, "http://mlflow", rollout=rollout, instance_count=10)
    assert config.deployment is not None
    live = EndpointState("InService", OLD, None, (LiveVariant("primary", 1.0, 10),))
    with pytest.raises(
        NonRetryableError, match=r"10 steps of bake_seconds \(300\) take longer than maximum_seconds \(900\)"
    ):
        choose(make_plan(config), config.deployment, live, scaled=False, champion="6")


def test_only_what_this_endpoint_s_deployments_made_is_theirs() -> None:
    assert made_for("flights", "flights-v7-abababab-01234567")
    assert not made_for("flights", "flights-late-v7-abababab-01234567")
    assert not made_for("flights", "flights-bootstrap")
    long, alike = "a" * 60, "a" * 59
    for version in ("v7", "v12345678"):  # the longer the version, the less of the endpoint's name
        name = resource_name(long, f"{version}-abababab-01234567")
        assert made_for(long, name)
        assert not made_for(alike, name)


# --- Results by variant -----------------------------------------------------------------------------


def test_figures_of_hours_add_up() -> None:
    hours = [
        {"Sum": 30.0, "SampleCount": 10.0, "Maximum": 9.0},
        {"Sum": 10.0, "SampleCount": 30.0, "Maximum": 2.0},
    ]
    found = add_up(hours)
    assert (found.sum, found.samples, found.largest, found.mean) == (40.0, 40.0, 9.0, 1.0)
    assert (add_up([]), add_up([]).mean) == (Counted(), None)


def test_a_table_of_variants() -> None:
    told = table(
        [
            Traffic("primary", "12", 0.9, 2000, 10, 1, 12.34, 400.0),
            Traffic("challenger", None, 0.1, 0, 0, 0, None, 0.0),
        ]
    )
    assert told.splitlines() == [
        "variant     version  share  requests         4xx        5xx  mean ms  max ms",
        "primary     12       90.0%      2000  10 (0.50%)  1 (0.05%)     12.3   400.0",
        "challenger  -        10.0%         0           -          -        -       -",
    ]


@pytest.mark.parametrize("hours", ["0", "1401", "1.5", "-1", "day", ""])
def test_hours_that_cannot_be(hours: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        variants.main(["--endpoint", "flights", f"--hours={hours}"])
    assert "is not a whole number from 1 to 1400" in capsys.readouterr().err
