"""Names, archive, smoke check, and the rollout's decisions against a scripted API."""

from __future__ import annotations

import gzip
import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from helpers import ROWS, make_config, make_examples

from deployer import rollout as rollout_module
from deployer.package import find_model, pack
from deployer.plan import Plan, make_plan, make_tags, resource_name
from deployer.rollout import Intent, Rollout, RolloutError
from deployer.sagemaker_api import EndpointState
from deployer.smoke import SmokeError, check_answer, make_request
from mlplatform.config import Candidate
from mlplatform.steps import Refused

CANDIDATE = Candidate(version="7", run_id="r", model_digest="ab" * 32)


def plan(**deployment: Any) -> Plan:
    return make_plan(make_config("flights-late", CANDIDATE, "http://mlflow", **deployment))


def test_names_say_what_they_name_and_are_stable() -> None:
    first = plan()
    assert re.fullmatch(r"flights-late-v7-abababab-[0-9a-f]{8}", first.model_name)
    assert re.fullmatch(r"flights-late-v7-abababab-[0-9a-f]{8}", first.config_name)
    assert first.model_data_url == "s3://artifacts/models/flights-late/7/model.tar.gz"
    assert plan() == first
    other = plan(instance_type="ml.m5.xlarge")
    assert other.model_name == first.model_name
    assert other.config_name != first.config_name
    assert plan(serving_image=first.image[:-1] + "2").model_name != first.model_name
    assert first.tags["run-key"] == "0123456789abcdef0123"
    assert (first.tags["ManagedBy"], first.tags["Environment"]) == ("deployer", "unknown")
    assert first.environment == {"MODEL_VERSION": "7", "MODEL_DIGEST": CANDIDATE.model_digest}


def test_names_begin_with_the_endpoints_name() -> None:
    # The deployer's rights, and the removal of what it made, go by that.
    made = plan(endpoint_name="ml-platform-dev-flights")
    assert made.model_name.startswith("ml-platform-dev-flights-v7-")
    assert made.config_name.startswith("ml-platform-dev-flights-v7-")


def test_long_names_are_cut() -> None:
    name = resource_name("a" * 40 + "_" + "b" * 40, "v7-abababab-01234567")
    assert len(name) == 63
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name)
    assert name.endswith("b-v7-abababab-01234567")


def test_tags_are_what_aws_takes() -> None:
    tags = make_tags({"aws:x": "1", "note": "a\nb;c" + "é" * 300, **{f"k{i}": "v" for i in range(60)}})
    assert len(tags) == 50
    assert make_tags({"aws:x": "1", "note": "a\nb;cé"}) == {"note": "a_b_cé"}


def test_what_is_missing_is_named() -> None:
    config = make_config("flights", CANDIDATE, "http://mlflow")
    for part in ("candidate", "deployment"):
        with pytest.raises(Refused, match=part) as refused:
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
    with pytest.raises(Refused, match=r"expected one manifest\.json .* found 0"):
        find_model(tmp_path, "", "models:/m/1")
    (tmp_path / "modelformat").mkdir()
    (tmp_path / "modelformat" / "manifest.json").write_text("{}")
    with pytest.raises(Refused, match="models:/m/1: its files have the digest"):
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


class Script:
    """An API that goes through given states; what is asked of it is written down."""

    def __init__(self, *states: EndpointState | None) -> None:
        self.states = list(states)
        self.calls: list[str] = []
        self.intent: Intent | None = None

    def endpoint(self, name: str) -> EndpointState | None:
        assert self.states, f"nothing more to say after {self.calls}"
        return self.states.pop(0)

    def create_endpoint(self, plan: Plan, config_name: str) -> None:
        self.calls.append(f"create {config_name}")

    def update_endpoint(self, name: str, config_name: str) -> None:
        self.calls.append(f"update {config_name}")

    def delete_endpoint(self, name: str) -> None:
        self.calls.append("delete")

    def write(self, intent: Intent) -> None:
        self.calls.append(f"note {intent.previous_config_name}")
        self.intent = intent

    def rollout(self) -> Rollout:
        return Rollout(self, plan(), lambda: self.intent, self.write, longest_pause=0)


def state(status: str, config: str = OLD, reason: str | None = None) -> EndpointState:
    return EndpointState(status, config, reason)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(rollout_module.time, "sleep", lambda _: None)


def test_cold_start_notes_before_it_creates() -> None:
    script = Script(None, state("Creating", NEW), state("InService", NEW))
    rollout = script.rollout()
    rollout.start()
    rollout.finish()
    assert script.calls == ["note None", f"create {NEW}"]


def test_update_waits_for_another_change_first() -> None:
    script = Script(state("Updating"), state("SystemUpdating"), state("InService"), state("InService", NEW))
    rollout = script.rollout()
    rollout.start()
    rollout.finish()
    assert script.calls == [f"note {OLD}", f"update {NEW}"]


def test_a_failed_endpoint_is_made_anew() -> None:
    script = Script(state("Failed", NEW, "no capacity"), state("Deleting"), None)
    script.rollout().start()
    assert script.calls == ["delete", "note None", f"create {NEW}"]


@pytest.mark.parametrize("status", ["UpdateRollbackFailed", "OutOfService"])
def test_an_endpoint_nobody_can_use_is_left_to_people(status: str) -> None:
    script = Script(state(status, reason="mixed"))
    with pytest.raises(Refused, match=f"{status} \\(mixed\\); nothing was changed"):
        script.rollout().start()
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
    script = Script(state("InService"), state("Updating"), end)
    rollout = script.rollout()
    rollout.start()
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
        ("InService", [state("InService", NEW), state("InService")], [f"update {OLD}"], "runs old-config again"),
        ("InService", [state("InService"), state("InService")], [], "runs old-config again"),
        ("InService", [state("Failed", NEW), None, state("InService")], ["delete", f"create {OLD}"], "runs old-config"),
        ("InService", [None, state("InService")], [f"create {OLD}"], "runs old-config"),
        (None, [state("InService", NEW), state("Deleting"), None], ["delete"], "nothing is live"),
        (None, [None], [], "nothing is live"),
    ],
)
def test_restore(before: str | None, states: list[EndpointState | None], calls: list[str], sentence: str) -> None:
    script = Script(state(before) if before else None, *states)
    rollout = script.rollout()
    rollout.start()
    script.calls.clear()
    assert sentence in rollout.restore()
    assert script.calls == calls


def test_a_restore_that_fails_says_so() -> None:
    script = Script(state("InService"), state("InService", NEW), state("Updating"), state("InService", NEW, "broken"))
    rollout = script.rollout()
    rollout.start()
    with pytest.raises(RolloutError, match="restoring old-config failed"):
        rollout.restore()


def test_a_second_attempt_knows_what_was_there() -> None:
    script = Script(state("InService"))
    script.rollout().start()  # killed here
    script.states = [state("Updating"), state("InService", NEW), state("InService", NEW), state("InService")]
    second = script.rollout()
    second.start()
    assert (second.changed, second.reversible) == (False, True)
    assert "runs old-config again" in second.restore()


def test_a_note_from_another_time_is_not_believed() -> None:
    """Between two attempts somebody else deployed: what is live now is what to put back."""
    script = Script(state("InService", "newer"))
    script.intent = Intent(endpoint_name="x", config_name=NEW, previous_config_name=OLD)
    rollout = script.rollout()
    rollout.start()
    assert rollout.previous_config == "newer"


def test_what_is_live_already_is_not_changed_nor_guessed_at() -> None:
    script = Script(state("InService", NEW))
    rollout = script.rollout()
    rollout.start()
    assert script.calls == []
    assert "what it ran before is not known" in rollout.restore()
