"""The kubelet itself, without a server: moments too short for a client to see."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from local.images import ImageRegistry
from local.kubernetes import scheduler
from local.kubernetes.faults import Faults
from local.kubernetes.kubelet import Kubelet
from local.kubernetes.records import Records
from local.kubernetes.store import Store


def _gpu_pod(name: str, gpus: int, **status: str) -> dict[str, Any]:
    amount = {scheduler.GPU: str(gpus)}
    container = {"name": "main", "image": "none", "resources": {"requests": amount, "limits": amount}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "default", "name": name, "uid": name},
        "spec": {"serviceAccountName": "default", "containers": [container], "tolerations": [{"operator": "Exists"}]},
        "status": {"phase": "Pending", **status},
    }


@pytest.mark.parametrize("gone", [False, True], ids=["ended", "deleted"])
def test_gpus_are_not_given_before_the_last_pod_has_left_them(tmp_path: Path, gone: bool) -> None:
    async def run() -> None:
        store = Store()
        for node in scheduler.nodes(2):
            store.create("nodes", node)
        kubelet = Kubelet(
            store,
            ImageRegistry(tmp_path / "images.json"),
            tmp_path,
            pod_env_file=None,
            faults=Faults(),
            records=Records(),
            start_delay=60,
            gpus=2,
        )
        leaving = _gpu_pod("leaving", 1, phase="Succeeded")
        leaving["spec"]["nodeName"] = "gpu"
        if not gone:
            store.create("pods", leaving)
        worker: Any = SimpleNamespace(pod=leaving, gpus=[0], finished=False)
        kubelet.workers["leaving"] = worker
        kubelet.admit(store.create("pods", _gpu_pod("next", 2)))
        await asyncio.sleep(0)
        assert "next" not in kubelet.workers
        worker.finished = True
        kubelet.schedule()
        assert kubelet.workers["next"].gpus == [0, 1]
        del kubelet.workers["leaving"]
        await kubelet.close()

    asyncio.run(run())
