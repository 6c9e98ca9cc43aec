"""Models that earlier releases have trained are evaluated, compared with and watched, with the documents they left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from golden_world import EvaluateResult, MonitorResult, ValidationDocument, World, drift, storage

from tests.golden.sets import SETS


@pytest.fixture(scope="module", params=SETS, ids=lambda golden: golden.folder.name)
def world(request: pytest.FixtureRequest, mlflow_uri: str) -> Iterator[World]:
    world = World(request.param, mlflow_uri)
    yield world
    world.remove()


def close(values: Any) -> Any:
    return pytest.approx(values, rel=1e-6, abs=1e-9)


def runs(world: World) -> list[str]:
    """Return the prefixes of the dataset's evaluated runs."""
    found = world.golden.matching(f"data/runs/{world.golden.dataset}/*/evaluate/result.json")
    return [uri.removesuffix("/evaluate/result.json") for uri in found]


def test_a_model_scores_as_it_did_beside_the_champion_that_it_was_compared_with(world: World) -> None:
    compared = 0
    for prefix in runs(world):
        before = storage.read_document(f"{prefix}/evaluate/result.json", EvaluateResult)
        if before.champion is None or compared:
            continue
        world.champion(before.champion.model_version)
        after = world.run("evaluate", world.config(f"{prefix}/evaluate/config.json"), f"{prefix}/prepare")
        for now, then in ((after.candidate, before.candidate), (after.champion, before.champion)):
            assert now.model_version == then.model_version
            assert now.metrics == close(then.metrics)
            assert now.model_bytes == then.model_bytes
        assert after.improvement.value == close(before.improvement.value)
        assert (after.rows, after.test_digest) == (before.rows, before.test_digest)
        assert [(one.feature, one.category, one.rows) for one in after.slices] == [
            (one.feature, one.category, one.rows) for one in before.slices
        ]
        compared += 1
    assert compared


def test_a_window_is_judged_as_it_was(world: World) -> None:
    (uri,) = world.golden.matching(f"data/monitoring/{world.golden.dataset}/*/result.json")
    before = storage.read_document(uri, MonitorResult)
    config = world.config(uri.replace("result.json", "config.json"))
    assert config.monitoring is not None
    after = world.run("monitor", config, config.monitoring.capture_uri)
    counted = ("requests", "rows", "malformed", "unattributed", "labels")
    assert {name: getattr(after, name) for name in counted} == {name: getattr(before, name) for name in counted}
    assert before.requests > 0
    assert before.labels.matched > 0
    for now, then in zip(after.versions, before.versions, strict=True):
        assert now.model_version == then.model_version
        assert {name: one.psi for name, one in now.features.items()} == close(
            {name: one.psi for name, one in then.features.items()}
        )
        assert now.prediction.psi == close(then.prediction.psi)
        assert (now.quality.value, now.quality.evaluated) == close((then.quality.value, then.quality.evaluated))
    assert after.verdict == before.verdict


def test_new_data_is_compared_with_what_the_champion_was_trained_on(world: World) -> None:
    champion = world.model["aliases"]["champion"]
    world.champion(champion)
    (version,) = (version for version in world.model["versions"] if version["version"] == champion)
    config = world.config(f"{version['tags']['run_prefix']}/config.json")
    reference = drift.find_reference(config)
    assert (reference.champion, reference.note) == (champion, None)
    assert reference.profiles is not None
    assert reference.profiles.keys() == config.model.tables.keys()


def test_what_validations_found_is_still_readable(world: World) -> None:
    found = world.golden.matching("data/runs/*/*/validate/validate.json")
    assert found
    for uri in found:
        storage.read_document(uri, ValidationDocument)
