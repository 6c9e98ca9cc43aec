"""Tests that moved, found again; tests that are gone, told."""

from __future__ import annotations

import pytest

from tests.moved_ids import Gone, ids_in, match, read_list, read_renamed, write_list

GATE = "tests/unit/mlplatform/test_gate.py::test_nan"


def test_what_was_collected_is_read() -> None:
    tests = ["tests/unit/a.py::test_one", "tests/unit/a.py::test_two[a [b]: c]", "tests/unit/b.py::TestIt::test_one"]

    assert (
        ids_in("\n".join([*tests, "", "=== warnings ===", "tests/unit/b.py:12", "3 tests collected in 0.1s"])) == tests
    )


def test_a_list_is_read_as_it_was_written() -> None:
    tests = [
        "tests/unit/a/test_x.py::test_one",
        "tests/unit/a/test_x.py::test_two[ a b]",
        "tests/unit/a/test_x.py::test_two[c::d[0]]",
        "tests/unit/b/test_x.py::TestGroup::test_two[]",
        "tests/unit/b/test_x.py::test_one",
    ]

    assert read_list(write_list(reversed(tests))) == tests


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param([GATE], [GATE], id="not moved"),
        pytest.param([GATE, f"{GATE}[0]"], ["tests/unit/promotion/test_gate.py::test_nan", f"{GATE}[0]"], id="one"),
        pytest.param([f"{GATE}[{n}]" for n in "01"], [f"tests/e2e/test_x.py::test_nan[{n}]" for n in "01"], id="all"),
        pytest.param(
            ["tests/unit/a/test_x.py::test_it", "tests/unit/a/test_y.py::test_it"],
            ["tests/unit/b/test_x.py::test_it", "tests/unit/b/test_y.py::test_it"],
            id="doubles, by file",
        ),
        pytest.param(
            ["tests/unit/test_x.py::test_it", "tests/dags/test_x.py::test_it"],
            ["tests/unit/a/test_y.py::test_it", "tests/dags/a/test_y.py::test_it"],
            id="doubles, by part",
        ),
        pytest.param(
            ["tests/unit/a/test_x.py::test_it", "tests/unit/a/test_y.py::test_it"],
            ["tests/unit/b/test_z.py::test_it", "tests/unit/a/test_y.py::test_it"],
            id="a double that stayed",
        ),
    ],
)
def test_what_moved_is_found(old: list[str], new: list[str]) -> None:
    expected = {before: after for before, after in zip(old, new, strict=True) if before != after}

    assert match(old, [*reversed(new), "tests/unit/test_more.py::test_more"], {}) == expected


@pytest.mark.parametrize(
    ("renamed", "new"),
    [
        pytest.param({f"{GATE}[0]": "tests/unit/a.py::test_b[x]"}, "tests/unit/a.py::test_b[x]", id="a test"),
        pytest.param({GATE: "tests/unit/a.py::test_b"}, "tests/unit/a.py::test_b[0]", id="a function"),
        pytest.param({GATE: "tests/unit/a.py::test_b"}, "tests/unit/a.py::test_b", id="many that became one"),
        pytest.param({GATE.partition("::")[0]: "tests/unit/a.py"}, "tests/unit/a.py::test_nan[0]", id="a file"),
        pytest.param(
            {GATE.partition("::")[0]: "tests/unit/a.py", GATE: "tests/unit/b.py::test_c"},
            "tests/unit/b.py::test_c[0]",
            id="what says most",
        ),
    ],
)
def test_what_was_renamed_is_found_by_hand(renamed: dict[str, str], new: str) -> None:
    other = "tests/unit/mlplatform/test_gate.py::test_other"
    also = {other: "tests/unit/a.py::test_other"}

    found = match([f"{GATE}[0]", other], [new, also[other]], renamed)

    assert found == {f"{GATE}[0]": new, **also}


@pytest.mark.parametrize(
    ("new", "renamed", "problem"),
    [
        pytest.param([], {}, f"{GATE}: is gone", id="gone"),
        pytest.param([f"{GATE}s"], {}, f"{GATE}: is gone", id="renamed"),
        pytest.param(
            ["tests/a/x.py::test_nan", "tests/b/x.py::test_nan"], {}, f"{GATE}: is gone", id="two of its name"
        ),
        pytest.param([f"{GATE}[0]"], {GATE: "tests/unit/x.py::test_x"}, f"{GATE}: is gone", id="a line to nowhere"),
        pytest.param([GATE], {GATE: GATE}, f"{GATE}: has nothing to rename", id="an idle line"),
    ],
)
def test_what_is_not_found_is_told(new: list[str], renamed: dict[str, str], problem: str) -> None:
    with pytest.raises(Gone) as told:
        match([GATE], new, renamed)

    assert str(told.value) == problem


def test_comments_say_why() -> None:
    assert read_renamed("# both said the same\na\tb\n\nc\td\n") == {"a": "b", "c": "d"}
