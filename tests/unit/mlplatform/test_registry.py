"""What MLflow's answers mean, in the one place that knows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow.artifacts
import pytest
from mlflow.exceptions import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
    MlflowException,
)

from mlplatform.errors import NonRetryableError
from mlplatform.promotion import registry

URI, NAME = "http://mlflow", "parcels"
FOUND = SimpleNamespace(name=NAME, version=7, run_id="r7", source="mlflow-artifacts:/1/r7/model", tags={"trial": "3"})
VERSION = registry.Version(NAME, "7", "r7", "mlflow-artifacts:/1/r7/model", {"trial": "3"})


class Client:
    """Answers everything with one thing, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, method: str) -> Any:
        def ask(*arguments: Any) -> Any:
            self.asked.append((method, *arguments))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return ask


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the registry answer so, and return its client."""

    def let(answer: Any) -> Client:
        client = Client(answer)
        monkeypatch.setattr(registry, "client", {URI: client}.__getitem__)
        return client

    return let


def test_what_is_known_of_a_version_is_the_same_by_number_and_by_alias(answers: Any) -> None:
    client = answers(FOUND)
    assert registry.get_version(URI, NAME, "7") == VERSION
    assert registry.get_version_with_alias(URI, NAME, "champion") == VERSION
    assert registry.version_with_alias(URI, NAME, "champion") == "7"
    asked = [("get_model_version", NAME, "7"), *[("get_model_version_by_alias", NAME, "champion")] * 2]
    assert client.asked == asked


@pytest.mark.parametrize(
    "answer",
    [
        # As the server says it, of a model that is not there and of an alias that is not set.
        MlflowException("Registered Model with name=parcels not found", RESOURCE_DOES_NOT_EXIST),
        MlflowException("Registered model alias champion not found.", INVALID_PARAMETER_VALUE),
    ],
)
def test_an_alias_that_is_not_set_is_no_error(answers: Any, answer: MlflowException) -> None:
    answers(answer)
    assert registry.version_with_alias(URI, NAME, "champion") is None
    assert registry.get_version_with_alias(URI, NAME, "champion") is None


@pytest.mark.parametrize(
    "answer",
    [
        MlflowException("Registered Model with name=parcels not found", RESOURCE_DOES_NOT_EXIST),
        MlflowException("Invalid value \"seven\" for parameter 'version' supplied", INVALID_PARAMETER_VALUE),
    ],
)
def test_a_version_that_is_not_there_is_refused(answers: Any, answer: MlflowException) -> None:
    answers(answer)
    with pytest.raises(NonRetryableError, match="models:/parcels/seven: no such version in the registry"):
        registry.get_version(URI, NAME, "seven")


@pytest.mark.parametrize(
    "answer",
    [
        MlflowException("the database is away", INTERNAL_ERROR),
        MlflowException("Invalid name", INVALID_PARAMETER_VALUE),
        ConnectionError("nobody listens"),
    ],
)
def test_no_other_trouble_is_taken_for_nothing_there(answers: Any, answer: Exception) -> None:
    """Else a candidate would be promoted without a comparison while the registry has trouble."""
    answers(answer)
    for ask in (registry.version_with_alias, registry.get_version_with_alias, registry.get_version):
        with pytest.raises(type(answer)):
            ask(URI, NAME, "1")


def test_aliases_move_and_go(answers: Any) -> None:
    client = answers(None)
    registry.set_alias(URI, NAME, "champion", "7")
    registry.delete_alias(URI, NAME, "previous")
    assert client.asked == [
        ("set_registered_model_alias", NAME, "champion", "7"),
        ("delete_registered_model_alias", NAME, "previous"),
    ]


def test_versions_are_found_by_a_tag(answers: Any) -> None:
    client = answers([FOUND])
    assert registry.tagged_versions(URI, NAME, "deployment", "live") == ["7"]
    assert client.asked == [("search_model_versions", "name = 'parcels' and tags.`deployment` = 'live'")]


def test_files_are_fetched_from_where_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = {}

    def download(**options: str) -> str:
        asked.update(options)
        return f"{options['dst_path']}/data"

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    assert registry.download(URI, f"{VERSION.source}/data", tmp_path) == tmp_path / "data"
    assert asked == {"artifact_uri": f"{VERSION.source}/data", "dst_path": str(tmp_path), "tracking_uri": URI}
