"""How a plan's differences are told apart; needs no account."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.emulated.plans import Artefact, Difference, differences, read_artefacts, unexplained, unused


def plan(actions: list[str], before: Any, after: Any, unknown: Any = None) -> dict[str, Any]:
    change = {"actions": actions, "before": before, "after": after, "after_unknown": unknown or {}}
    return {"resource_changes": [{"address": "a.b[0]", "mode": "managed", "change": change}]}


def attributes(found: list[Difference]) -> list[str]:
    return [difference.attribute for difference in found]


def test_an_empty_plan_has_none() -> None:
    assert differences({}) == []
    assert differences(plan(["no-op"], {"x": 1}, {"x": 1})) == []


def test_each_changed_leaf_is_one() -> None:
    before = {"x": 1, "list": [{"y": 1, "z": 1}], "same": {"a": 1}, "grown": [1]}
    after = {"x": 2, "list": [{"y": 1, "z": 2}], "same": {"a": 1}, "grown": [1, 2]}
    assert attributes(differences(plan(["update"], before, after))) == ["grown", "list.0.z", "x"]


def test_what_is_known_after_apply_is_not_one() -> None:
    found = differences(plan(["update"], {"x": 1, "id": "a"}, {"x": 2}, {"id": True}))
    assert attributes(found) == ["x"]


def test_a_whole_resource_is_one() -> None:
    assert attributes(differences(plan(["create"], None, {"x": 1}))) == ["*"]
    assert attributes(differences(plan(["delete"], {"x": 1}, None))) == ["*"]


def test_a_change_that_shows_nothing_is_not_passed_over() -> None:
    assert attributes(differences(plan(["update"], {"x": 1}, {"x": 1}, {"y": True}))) == ["?"]


def test_an_artefact_explains_its_own_difference_only() -> None:
    found = [Difference('m.x["a"].r', "tags.k", 1, 2, "update"), Difference('m.x["b"].r', "name", 1, 2, "update")]
    known = Artefact(address="m.x[*].r", attribute="tags.*", reason="r")
    idle = Artefact(address="m.y", attribute="*", reason="r")
    assert unexplained(found, [known, idle]) == [found[1]]
    assert unused(found, [known, idle]) == [idle]


def test_an_artefact_needs_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("- {address: a, attribute: b, reason: c}\n")
    assert [artefact.reason for artefact in read_artefacts(file)] == ["c"]
    assert isinstance(read_artefacts(), list)
