"""What is reached from here, and which way is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cloud.access import cluster_kubeconfig, reached_from_here, ways
from cloud.access.targets import Target
from tests.unit.cloud.access.conftest import KUBERNETES, Private


def near(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let some answer from here; the hosts of the others have no address."""

    def silence(target: Target, host: str, port: int, seconds: float) -> str | None:
        assert (host, port) == (target.host, target.port)
        return None if target.name in names else "Name or service not known"

    monkeypatch.setattr(ways, "silence", silence)


def test_what_is_private_is_told_with_the_way_there(private: Private, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reached_from_here(private.environment) == "Airflow, MLflow, Kubernetes by `make open ENV=dev`"
    near(monkeypatch, "Kubernetes")
    assert reached_from_here(private.environment) == "Kubernetes from here; Airflow, MLflow by `make open ENV=dev`"
    near(monkeypatch, "Airflow", "MLflow", "Kubernetes")
    assert reached_from_here(private.environment) == "Airflow, MLflow, Kubernetes from here"


def test_without_a_bastion_private_clients_are_told(private: Private) -> None:
    private.environment.outputs["bastion_instance_id"] = None
    assert reached_from_here(private.environment) == (
        "Airflow, MLflow, Kubernetes only from private clients of dev, as it has no bastion"
    )


def test_the_cluster_is_configured_through_the_bastion_where_nothing_else_leads_there(private: Private) -> None:
    said: list[str] = []
    with cluster_kubeconfig(private.environment, said.append) as path:
        (cluster,) = json.loads(path.read_text())["clusters"]
        assert cluster["cluster"]["tls-server-name"] == KUBERNETES
        assert len(private.sessions.running()) == 1
    assert said == ["the Kubernetes API is private: going through the bastion"]
    assert not path.exists()


@pytest.mark.parametrize("reached", [True, False])
def test_the_cluster_is_configured_straight_where_it_answers_or_nothing_else_could_help(
    private: Private, monkeypatch: pytest.MonkeyPatch, reached: bool
) -> None:
    near(monkeypatch, *(["Kubernetes"] if reached else []))
    if not reached:
        private.environment.outputs["bastion_instance_id"] = None
    said: list[str] = []
    with cluster_kubeconfig(private.environment, said.append) as path:
        assert _server(path) == f"https://{KUBERNETES}"
    assert said == []


def _server(path: Path) -> str:
    (cluster,) = json.loads(path.read_text())["clusters"]
    server: str = cluster["cluster"]["server"]
    return server
