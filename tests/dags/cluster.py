"""Steps on the local Kubernetes API: its server, and task instances as Airflow's processes have them."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEV = ROOT / ".local" / "envs" / "dev" / "bin" / "python"
PREFIX = "s3://data-bucket/runs/flights/0123456789abcdef0123"
OUTPUT = f"{PREFIX}/train/000"
CUDA = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mlplatform/trainer-cuda:dddddddddddd"
NAMESPACE = "ml-training"


def settings_for(pods: int, **kubernetes: Any) -> Any:
    """Return the settings of the dataset `flights`, with changes."""
    from mlplatform.config.loading import load_dataset

    loaded = load_dataset("flights").settings
    training = loaded.training.model_copy(update={"pods_per_trial": pods})
    cluster = loaded.kubernetes.model_copy(update=kubernetes)
    return loaded.model_copy(update={"training": training, "kubernetes": cluster})


def make(settings: Any, dataset: str = "flights", **changes: Any) -> Any:
    """Return the training's operator as the DAG makes it, with the arguments of one trial."""
    from mlplatform.config.loading import load_dataset
    from mlplatform.orchestration.jobs import training_operator

    flights = load_dataset("flights")
    made = replace(flights, settings=settings, model=flights.model.model_copy(update={"name": dataset}))
    operator, options = training_operator(made, "0123456789abcdef0123")
    arguments = ["train", "--config", f"{OUTPUT}/config.json", "--input", f"{PREFIX}/prepare", "--output", OUTPUT]
    return operator(task_id="train", arguments=arguments, **{**options, **changes})


def context_of(task: Any, dag: Any, run_id: str = "manual__1", try_number: int = 1, **params: Any) -> Any:
    """Return what a task instance with map index 3 gets, and render the operator with it."""
    given: Any = {
        "params": {"family": "pytorch", "device": "cpu", **params},
        **dag.user_defined_macros,
        "ti": SimpleNamespace(
            dag_id="train__flights",
            task_id="training.train",
            map_index=3,
            try_number=try_number,
            start_date=datetime.now(UTC),
            xcom_push=lambda key, value: None,
        ),
        "run_id": run_id,
        "dag": SimpleNamespace(parent_dag=None),
    }
    task.render_template_fields(given, jinja_env=dag.get_template_env())
    return given


def until(happened: Callable[[], bool], seconds: float = 15) -> None:
    """Wait until something has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


class Cluster:
    """A local Kubernetes API in a process of its own, with what is in every cluster, and Airflow's rights there.

    Args:
        time_scale: how many times faster than in a real cluster Kubernetes' own waits pass.
    """

    def __init__(self, folder: Path, time_scale: int = 200) -> None:
        self._folder = folder
        self.kubeconfig = folder / "state" / "airflow.kubeconfig"
        self.images()
        command = [str(DEV), "-m", "local.kubernetes", "--port", "0", "--state-dir", str(folder / "state")]
        command += ["--images", str(folder / "images.json"), "--user", "airflow=ml-platform:airflow"]
        command += ["--time-scale", str(time_scale), "--manifest", str(ROOT / "config" / "kubernetes" / "base")]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        self._server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert self._server.stdout is not None
        line = next((line for line in self._server.stdout if "https://127.0.0.1:" in line), None)
        assert line is not None, "the local Kubernetes API did not start"
        self._address = line[line.index("https://") :].split()[0].rstrip("/.,")

    def stop(self) -> None:
        """End it, and its pods."""
        self._server.terminate()
        self._server.wait(15)

    def images(self, script: str | None = None) -> None:
        """Make the training's image run a shell script from now on; without one there is no such image."""
        images = {} if script is None else {CUDA: {"entrypoint": ["/bin/sh", "-c", script, "sh"]}}
        (self._folder / "images.json").write_text(json.dumps(images))

    def fault(self, **fault: Any) -> None:
        """Let something go wrong."""
        self._call("/local/faults", json.dumps(fault).encode())

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self._call("/local/faults", method="DELETE")

    @contextmanager
    def changed(self, path: str, **changes: Any) -> Iterator[None]:
        """Change a specification by a merge patch, as the administrator, and set the same fields back."""
        before = json.loads(self._call(path))["spec"]
        self._call(path, json.dumps({"spec": changes}).encode(), "PATCH")
        try:
            yield
        finally:
            self._call(path, json.dumps({"spec": before}).encode(), "PATCH")

    def _call(self, path: str, data: bytes | None = None, method: str | None = None) -> bytes:
        state = self.kubeconfig.parent
        headers = {"Authorization": f"Bearer {(state / 'token').read_text().strip()}"}
        request = urllib.request.Request(f"{self._address}{path}", data, headers, method=method)
        request.add_header("Content-Type", f"application/{'merge-patch+json' if method == 'PATCH' else 'json'}")
        trusted = ssl.create_default_context(cafile=str(state / "ca.crt"))
        with urllib.request.urlopen(request, context=trusted, timeout=10) as answer:
            content: bytes = answer.read()
        return content


class Task:
    """A task instance of the training step on the local Kubernetes API.

    Args:
        script: what the image does.
        pods: of a trial; one has the operator of one pod, several that of a job.
        options: other arguments of the operator.
    """

    def __init__(
        self,
        dag: Any,
        cluster: Cluster,
        script: str,
        run_id: str | None = None,
        try_number: int = 1,
        pods: int = 2,
        **options: Any,
    ) -> None:
        cluster.images(script)
        self.run_id = run_id or f"manual__{uuid.uuid4().hex}"
        self.settings = settings_for(pods, kubeconfig=str(cluster.kubeconfig), context=None)
        self.options = {"attended_seconds": 0, "termination_grace_period": 2, **options}
        self.dag, self.try_number = dag, try_number
        self.operator = self.new()

    def new(self) -> Any:
        """Return the operator as another process has it: nothing is left of what it knew before a deferral."""
        operator = make(self.settings, **self.options)
        self.context = context_of(operator, self.dag, self.run_id, self.try_number)
        return operator

    def start(self) -> Any:
        """Execute until the task is deferred; returns the deferral."""
        from airflow.sdk.exceptions import TaskDeferred

        with pytest.raises(TaskDeferred) as deferred:
            self.operator.execute(self.context)
        return deferred.value

    def run(self) -> Any:
        """Run the task to its end, with a trigger and an operator that know only what was deferred."""
        deferral = self.start()
        return self.resume(deferral, self.triggered(deferral))

    def triggered(self, deferral: Any) -> Any:
        """Return the event of a deferral's trigger, made of what is stored of it."""
        from airflow.sdk.module_loading import import_string

        path, kwargs = deferral.trigger.serialize()
        json.dumps({key: value for key, value in kwargs.items() if key not in ("trigger_start_time", "moment")})
        trigger = import_string(path)(**kwargs)

        async def first() -> Any:
            async for event in trigger.run():
                return event.payload
            raise AssertionError("no event")

        return asyncio.run(asyncio.wait_for(first(), 30))

    def resume(self, deferral: Any, event: Any) -> Any:
        """Go on in a new process."""
        return self._resume(self.new(), deferral, event)

    def resume_until_deferred(self, deferral: Any, event: Any) -> Any:
        """Go on in a new process until the task is deferred again; returns the deferral."""
        from airflow.sdk.exceptions import TaskDeferred

        self.operator = self.new()
        with pytest.raises(TaskDeferred) as deferred:
            self._resume(self.operator, deferral, event)
        return deferred.value

    def _resume(self, operator: Any, deferral: Any, event: Any) -> Any:
        return getattr(operator, deferral.method_name)(self.context, event=event, **(deferral.kwargs or {}))

    def jobs(self) -> list[Any]:
        """Return the jobs that are there."""
        found: list[Any] = self.operator.hook.batch_v1_client.list_namespaced_job(NAMESPACE).items
        return found

    def pods(self) -> list[Any]:
        """Return the pods that are there."""
        found: list[Any] = self.operator.client.list_namespaced_pod(NAMESPACE).items
        return found

    def until_running(self) -> None:
        """Wait until all pods run."""
        wanted = ["Running"] * self.settings.training.pods_per_trial
        until(lambda: [pod.status.phase for pod in self.pods()] == wanted)

    def until_nothing_is_left(self) -> None:
        """Wait until Kubernetes has nothing of it any more."""
        until(lambda: not self.jobs() and not self.pods())
