from __future__ import annotations

from functools import partial

import pytest

from cloud.errors import CloudError
from cloud.up import Step, minutes, run_steps


class Mountain:
    """Steps that remember being run; one of them may fail."""

    def __init__(self, failing: str | None = None) -> None:
        self.ran: list[str] = []
        self.said: list[str] = []
        self.failing = failing

    def steps(self) -> list[Step]:
        return [Step(name, "1 min", partial(self._run, name)) for name in ("images", "apply", "smoke")]

    def _run(self, name: str) -> None:
        if name == self.failing:
            raise CloudError("no more room")
        self.ran.append(name)


def test_all_steps_in_order() -> None:
    mountain = Mountain()
    run_steps(mountain.steps(), None, mountain.said.append)
    assert mountain.ran == ["images", "apply", "smoke"]
    assert mountain.said[0] == "[1/3] images (usually 1 min)"


def test_a_failure_says_how_to_go_on_and_stops() -> None:
    mountain = Mountain(failing="apply")
    with pytest.raises(CloudError, match=r"apply: no more room\nMend it and run .* FROM=apply"):
        run_steps(mountain.steps(), None, mountain.said.append)
    assert mountain.ran == ["images"]


def test_going_on_from_a_step() -> None:
    mountain = Mountain()
    run_steps(mountain.steps(), "apply", mountain.said.append)
    assert mountain.ran == ["apply", "smoke"]
    assert mountain.said[0].startswith("[2/3] apply")


def test_an_unknown_step_is_refused_before_anything_runs() -> None:
    mountain = Mountain()
    with pytest.raises(CloudError, match="FROM='aply' is not a step: choose one of images, apply, smoke"):
        run_steps(mountain.steps(), "aply", mountain.said.append)
    assert not mountain.ran


def test_durations_read_as_people_say_them() -> None:
    assert (minutes(42.4), minutes(1500)) == ("42 s", "25 min")
