"""What an earlier release has deployed keeps its names, archives and notes: it is deployed again, and gone back to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from golden_world import DeployResult, Intent, World, differences, find_model, make_plan, pack, storage

from tests.golden.sets import SETS


@pytest.fixture(params=SETS, ids=lambda golden: golden.folder.name)
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(request.param, monkeypatch)


def test_names_in_sagemaker_are_still_the_same(world: World) -> None:
    known = world.golden.read("sagemaker.json")
    checked = 0
    for prefix, config in world.deployments().items():
        intent = storage.read_document(f"{prefix}/intent.json", Intent)
        plan = make_plan(config)
        assert (plan.config_name, plan.endpoint_name) == (intent.config_name, intent.endpoint_name)
        assert not list(differences(plan.config, known["configurations"][plan.config_name]))
        for variant in plan.variants:
            assert not list(differences(variant.model, known["models"][variant.model_name]))
            checked += 1
    assert checked >= 4


def test_archives_are_still_the_same(world: World, tmp_path: Path) -> None:
    archives = world.golden.read("archives.json")
    checked = set()
    for config in world.deployments().values():
        for variant in make_plan(config).variants:
            kept = archives[storage.split_uri(variant.model_data_url)[1]]
            found = find_model(world.saved_model(variant.version), variant.model_digest, "")
            content = pack(found, tmp_path / "model.tar.gz").read_bytes()
            assert hashlib.sha256(content).hexdigest() == kept["sha256"]
            checked.add(variant.version)
    assert len(checked) >= 2


def test_a_finished_deployment_is_not_done_again(world: World) -> None:
    for prefix, config in world.configs().items():
        before = storage.try_read_document(f"{prefix}/result.json", DeployResult)
        if before is not None:
            assert world.run(config, prefix) == before
    assert world.sagemaker.changes == []


def test_the_last_one_goes_on_where_it_was_interrupted(world: World) -> None:
    """All was done, but the result: the note of what was before is believed, and nothing changes."""
    ((prefix, config),) = world.deployments("rollback").items()
    before = storage.read_document(f"{prefix}/result.json", DeployResult)
    del world.s3.objects[storage.split_uri(f"{prefix}/result.json")]
    after = world.run(config, prefix)
    assert world.sagemaker.changes == []
    assert world.mlflow.aliases == world.model["aliases"]
    same = ("model_version", "previous_version", "endpoint_config_name", "previous_endpoint_config_name", "strategy")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]


@pytest.mark.parametrize("purpose", ["deploy", "rollback"])
def test_the_version_before_goes_live_again(world: World, purpose: str) -> None:
    champion, previous = world.model["aliases"]["champion"], world.model["aliases"]["previous"]
    config = next(
        config
        for config in world.deployments().values()
        if config.candidate and config.candidate.version == previous and not config.deployment.experiment  # type: ignore[union-attr]
    )
    assert config.deployment is not None
    config = config.model_copy(update={"deployment": config.deployment.model_copy(update={"purpose": purpose})})
    made = set(world.sagemaker.models_made)

    result = world.run(config, f"s3://{world.golden.buckets['data']}/deployments/{world.golden.dataset}/again")

    assert (result.model_version, result.previous_version) == (previous, champion)
    assert (world.mlflow.aliases["champion"], world.mlflow.aliases["previous"]) == (previous, champion)
    assert result.endpoint_config_name == make_plan(config).config_name
    assert world.sagemaker.state is not None
    assert world.sagemaker.state.config_name == result.endpoint_config_name
    assert set(world.sagemaker.models_made) <= made, "its model in SageMaker is the one that was made then"
    assert result.smoke_max_difference == 0
