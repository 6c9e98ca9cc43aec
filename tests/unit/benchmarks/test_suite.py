"""Parts of the suite, run and measured: made-up ones of a Makefile of their own."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from benchmarks import suite
from benchmarks.suite import Suite, counts
from benchmarks.suite_table import read

ROOT = Path(__file__).resolve().parents[3]
MAKEFILE = """\
test: lint test-a test-b test-c ## All
lint:
\t@echo clean
test-a:
\t@echo '3 passed, 1 skipped in 0.01s'
test-b:
\t@test ! -e broken || { echo '1 failed, 2 passed in 0.02s'; exit 1; }
\t@echo '4 passed in 0.02s'
test-c:
\t@echo '5 passed, 2 warnings in 61.00s (0:01:01)'
extra:
\t@echo '1 passed in 0.01s'
patient:
\t@echo > ready; exec sleep 61
"""
PAGE = "# Tests\n\n<!-- BEGIN suite -->\n<!-- END suite -->\n\nrest\n"


@pytest.fixture
def made_up(tmp_path: Path) -> Suite:
    (tmp_path / "Makefile").write_text(MAKEFILE)
    return Suite(tmp_path)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "testing.md"
    path.write_text(PAGE)
    return path


def rows(page: Path) -> dict[str, tuple[int, int]]:
    return {row.part: (row.passed, row.skipped) for row in read(page.read_text())}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("...\n12 passed in 3.45s\n", (12, 0)),
        ("1 failed, 3 passed, 2 skipped, 9 deselected in 3.45s (0:00:03)\n", (3, 2)),
        ("======= 12 passed, 1 warning in 3.45s =======\n", (12, 0)),
        ("1 passed in 0.10s\n2 passed, 1 skipped in 0.20s\n", (3, 1)),
        ("1 skipped in 0.10s\n", (0, 1)),
        ("All checks passed!\n634 files already formatted\n", (0, 0)),
        ("told: 7 passed in 0.10s\n", (0, 0)),
    ],
)
def test_the_closing_lines_are_added_up(output: str, expected: tuple[int, int]) -> None:
    assert counts(output) == expected


def test_the_parts_are_those_of_make_test() -> None:
    parts = Suite(ROOT).parts()

    assert parts[:2] == ["lint", "types"]
    assert {"test-unit", "test-e2e"} <= set(parts)
    assert all(part == "lint" or part == "types" or part.startswith("test-") for part in parts)


def test_every_part_is_run_and_told(made_up: Suite, page: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert suite.main([], made_up, page) == 0

    told = capfd.readouterr().out
    assert "3 passed, 1 skipped in 0.01s\nsuite: test-a passed in " in told
    assert "suite: lint, test-a, test-b, test-c passed in " in told.splitlines()[-1]
    assert "make test" not in told
    assert page.read_text() == PAGE


def test_parts_by_name_say_what_is_left_to_run(made_up: Suite, capfd: pytest.CaptureFixture[str]) -> None:
    assert suite.main(["--parts", "lint,extra"], made_up) == 0

    last = capfd.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"suite: lint, extra passed in \d\.\d minutes; before a pull request: make test", last)


def test_after_a_failure_no_other_begins(made_up: Suite, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken").touch()

    assert suite.main(["--at-a-time", "1"], made_up) == 1

    told = capfd.readouterr().out
    assert "1 failed, 2 passed in 0.02s\n" in told
    assert "suite: test-b FAILED with exit code 2" in told
    assert "test-c" not in told
    assert told.splitlines()[-1].startswith("suite: FAILED")


def test_the_table_is_written(made_up: Suite, page: Path) -> None:
    assert suite.main(["--write"], made_up, page) == 0

    assert rows(page) == {"lint": (0, 0), "test-a": (3, 1), "test-b": (4, 0), "test-c": (5, 0)}
    assert "3 parts at a time, all in 0 minutes\n" in page.read_text()
    assert page.read_text().endswith("<!-- END suite -->\n\nrest\n")


def test_some_rows_are_written(made_up: Suite, page: Path) -> None:
    assert suite.main(["--write", "--parts", "test-c"], made_up, page) == 0
    assert suite.main(["--write", "--parts", "test-a"], made_up, page) == 0

    assert rows(page) == {"test-a": (3, 1), "test-c": (5, 0)}
    assert ", all in" not in page.read_text()


def test_a_part_that_fails_is_not_written(made_up: Suite, page: Path, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()

    assert suite.main(["--write", "--at-a-time", "1"], made_up, page) == 1

    assert rows(page) == {"lint": (0, 0), "test-a": (3, 1)}
    assert ", all in" not in page.read_text()


def test_what_is_not_in_make_test_gets_no_row(made_up: Suite, page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        suite.main(["--write", "--parts", "extra"], made_up, page)

    assert "'extra' is no part of `make test`: choose from lint, test-a, test-b, test-c" in capsys.readouterr().err


def test_it_can_be_stopped(made_up: Suite, tmp_path: Path) -> None:
    def stop() -> None:
        while not (tmp_path / "ready").exists():
            pass
        made_up.stop()

    threading.Thread(target=stop).start()
    (result,) = made_up.run(["patient", "test-a"], at_a_time=1)

    assert result.part == "patient"
    assert result.cost.returncode != 0


def test_who_ran_it_gets_the_signals_back(made_up: Suite) -> None:
    before = signal.getsignal(signal.SIGTERM)

    suite.main(["--parts", "lint"], made_up)

    assert signal.getsignal(signal.SIGTERM) is before


def test_the_parts_of_make_check_are_there() -> None:
    recipe = subprocess.run(["make", "-n", "check"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    parts = recipe.partition("--parts ")[2].split()[0].split(",")

    assert {"lint", "types", "test-unit"} < set(parts)
    subprocess.run(["make", "-n", *parts], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
