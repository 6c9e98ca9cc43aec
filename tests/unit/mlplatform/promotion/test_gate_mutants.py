"""The gate's tests are good enough to notice any small mistake in the gate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlplatform.promotion import gate, guards
from tests.unit.mlplatform.promotion.mutants import REQUEST, mutants

ROOT = Path(__file__).parents[4]
FOLDER = Path(__file__).parent
TESTS = [FOLDER / "test_gate.py", FOLDER / "test_gate_properties.py"]
PROCESSES = 2
MODULES = {module.__name__: Path(str(module.__file__)) for module in (gate, guards)}

AT_THE_ROUNDING = "only a number that is exactly 1e-12 from the limit is judged differently; the allowance is no limit"
EQUIVALENT = {
    "passed = least >= wanted.bound - _ROUNDING  # least >= wanted.bound - _ROUNDING: GtE to Gt": AT_THE_ROUNDING,
    "passed = passed and least > _ROUNDING  # least > _ROUNDING: Gt to GtE": AT_THE_ROUNDING,
    "passed = loss <= allowed + _ROUNDING or (noise is not None and loss <= noise)"
    "  # loss <= allowed + _ROUNDING: LtE to Lt": AT_THE_ROUNDING,
}
"""Mutants that decide as the gate does, and why; one that is not made any more, or is killed, may not stay here."""


@dataclass(frozen=True)
class Outcome:
    """What became of the mutants that were tried."""

    tried: int
    tests: int
    survived: list[str]


def attack(
    folder: Path, *arguments: str, module: str = guards.__name__, tests: list[Path] = TESTS, containing: str = ""
) -> Outcome:
    """Try the tests on every mutant of the gate whose line contains a text."""
    workers = []
    for first in range(PROCESSES):
        answer = folder / f"{first}.json"
        request = {
            "module": module,
            "answer": str(answer),
            "first": first,
            "step": PROCESSES,
            "containing": containing,
        }
        command = [
            *(sys.executable, "-m", "pytest", "-p", "mutants", "-p", "no:cacheprovider"),
            *("--assert=plain", "--tb=no", *map(str, tests), *arguments),
        ]
        paths = os.pathsep.join([str(FOLDER), str(ROOT), str(ROOT / "dags")])
        environment = {**os.environ, REQUEST: json.dumps(request), "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        workers.append((answer, process))
    answers = []
    for answer, process in workers:
        output, _ = process.communicate(timeout=300)
        assert answer.exists(), output
        answers.append(json.loads(answer.read_text(encoding="utf-8")))
        assert answers[-1]["passed"], f"the tests fail on the gate as it is\n{output}"
    return Outcome(
        tried=sum(answer["tried"] for answer in answers),
        tests=min(answer["tests"] for answer in answers),
        survived=[name for answer in answers for _, name in answer["survived"]],
    )


def test_every_mutant_of_the_gate_is_killed(tmp_path: Path) -> None:
    outcomes = [attack(tmp_path, module=module) for module in MODULES]
    assert sum(outcome.tried for outcome in outcomes) > 280
    assert sorted(name for outcome in outcomes for name in outcome.survived) == sorted(EQUIVALENT), (
        "a test is missing, or a reason why it makes no difference"
    )


def test_each_guard_is_dropped_and_the_two_models_are_swapped() -> None:
    changes = [mutant.name for source in MODULES.values() for mutant in mutants(source.read_text(encoding="utf-8"))]
    dropped = [name for name in changes if "without element" in name and name.startswith("GUARDS")]
    assert len(dropped) == len(guards.GUARDS)
    assert sum(name.endswith(("# candidate to champion", "# champion to candidate")) for name in changes) > 10


def test_weaker_tests_are_noticed(tmp_path: Path) -> None:
    """Without what is tested of latency, that guard can be broken."""
    outcome = attack(tmp_path, "-k", "not measurement and not limit and not reasons", containing="measured.single_ms")
    assert outcome.tried >= 2
    assert outcome.survived


def test_tests_that_fail_on_the_gate_as_it_is_prove_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "test_broken.py"
    broken.write_text("def test_broken():\n    assert False\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="the tests fail on the gate as it is"):
        attack(tmp_path, tests=[broken])


def test_mutants_of_a_small_source() -> None:
    source = "def f(candidate: int = 1) -> bool:\n    return not candidate < 2 and g([candidate, -x]) or x is None\n"
    assert [mutant.what for mutant in mutants(source)] == [
        "1 plus 1",
        *("Or to And", "without operand 0", "without operand 1"),
        *("And to Or", "without operand 0", "without operand 1"),
        "Not dropped",
        *("candidate < 2: Lt to LtE", "candidate < 2: Lt to Gt"),
        *("candidate to champion", "2 plus 1"),
        *("without element 0", "without element 1", "candidate to champion", "minus to plus"),
        "x is None: Is to IsNot",
    ]
