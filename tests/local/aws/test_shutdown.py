"""However the server ends, its serving processes end too."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest


def wait_all_gone(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return what is left after that time."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    # An orphan stays a zombie where process 1 is not an init, as in many containers.
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def own_stage(start_aws: Any, tmp_path: Path) -> Any:
    return start_aws(tmp_path)


def test_sigterm_leaves_no_process(own_stage: Any) -> None:
    own_stage.endpoint(own_stage.config(own_stage.model(), own_stage.model({"mode.txt": "stubborn"})))
    starting = own_stage.config(own_stage.model({"mode.txt": "never-healthy"}))
    own_stage.sm.create_endpoint(EndpointName="starting", EndpointConfigName=starting)
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 15
    while len(children) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
        children = psutil.Process(own_stage.aws.process.pid).children(recursive=True)
    assert len(children) == 4  # two variants, the child of one of them, and the one still starting
    began = time.monotonic()
    assert own_stage.aws.stop() == 0
    assert time.monotonic() - began < 10
    assert wait_all_gone(children, 0.5) == []
    assert list((own_stage.aws.state_dir / "models").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_sigkill_leaves_no_serving_process(own_stage: Any) -> None:
    own_stage.endpoint(own_stage.config(own_stage.model()))
    children = psutil.Process(own_stage.aws.process.pid).children(recursive=True)
    assert len(children) == 1
    own_stage.aws.process.send_signal(signal.SIGKILL)
    assert wait_all_gone(children, 3) == []
