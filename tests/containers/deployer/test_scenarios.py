"""Every way a deployment can go, in memory; and each of them with a deployer that dies at any of its calls."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes import Death, Killed, Scenario

from deployer.rollout import Rollout
from deployer.sagemaker_api import EndpointState, LiveVariant
from mlplatform.deployment.lock import DeploymentLock
from mlplatform.errors import LockLostError

KEY = "arn:aws:kms:us-east-1:123456789012:key/1"
ALARMS = ["scenario-rollback-4xx", "scenario-rollback-5xx"]
CANARY: dict[str, Any] = {"rollout": {"strategy": "canary", "bake_seconds": 60}, "alarms": ALARMS}


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scenario:
    found = Scenario(tmp_path, monkeypatch)
    found.sagemaker.alarms = dict.fromkeys(ALARMS, "OK")
    return found


# --- What is asked of SageMaker -----------------------------------------------------------------


def test_a_first_deployment_has_all_that_the_bootstrap_configuration_had(scenario: Scenario) -> None:
    result = scenario.deploy(
        "1",
        kms_key_arn=KEY,
        capture={"percentage": 20, "uri": "s3://data/capture/scenario"},
        vpc={"subnets": ["subnet-1", "subnet-2"], "security_groups": ["sg-1"]},
        **CANARY,
    )
    config = scenario.sagemaker.configs_made[result.endpoint_config_name]
    assert config["KmsKeyId"] == KEY
    assert config["DataCaptureConfig"]["KmsKeyId"] == KEY
    assert config["DataCaptureConfig"]["InitialSamplingPercentage"] == 20
    (model,) = scenario.sagemaker.models_made.values()
    assert model["EnableNetworkIsolation"] is True
    assert model["VpcConfig"] == {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1", "subnet-2"]}
    assert (result.strategy, result.alarms, result.previous_endpoint_config_name) == ("create", [], None)
    assert len(result.checks) == 3


def test_disks_that_encrypt_themselves_get_no_key_but_captured_data_does(scenario: Scenario) -> None:
    capture = {"percentage": 10, "uri": "s3://data/capture/scenario"}
    result = scenario.deploy("1", kms_key_arn=KEY, encrypt_volumes=False, capture=capture)
    config = scenario.sagemaker.configs_made[result.endpoint_config_name]
    assert "KmsKeyId" not in config
    assert config["DataCaptureConfig"]["KmsKeyId"] == KEY


def test_a_canary_watches_the_alarms(scenario: Scenario) -> None:
    first = scenario.deploy("1", **CANARY)
    result = scenario.deploy("2", **CANARY)
    kind, _, request, keep_counts = scenario.sagemaker.changes[-1]
    assert (kind, keep_counts) == ("update", False)
    policy = request["BlueGreenUpdatePolicy"]
    assert policy["TrafficRoutingConfiguration"] == {
        "Type": "CANARY",
        "WaitIntervalInSeconds": 60,
        "CanarySize": {"Type": "INSTANCE_COUNT", "Value": 1},
    }
    assert request["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": name} for name in ALARMS]}
    assert (result.strategy, result.alarms) == ("canary", ALARMS)
    assert (result.previous_version, result.previous_endpoint_config_name) == ("1", first.endpoint_config_name)
    assert scenario.alias() == ("2", "1")
    assert scenario.marks() == {"1": "replaced", "2": "live"}


def test_one_instance_goes_all_at_once_and_says_why(scenario: Scenario, caplog: pytest.LogCaptureFixture) -> None:
    scenario.deploy("1", **CANARY, instance_count=1)
    caplog.set_level("INFO")
    result = scenario.deploy("2", **CANARY, instance_count=1)
    request = scenario.sagemaker.changes[-1][2]
    assert request["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["Type"] == "ALL_AT_ONCE"
    assert request["AutoRollbackConfiguration"]["Alarms"]
    assert result.strategy == "all-at-once"
    assert result.strategy_reason == "canary needs at least two instances, and there is one"
    assert result.strategy_reason in caplog.text


def test_autoscaling_keeps_its_number_of_instances(scenario: Scenario) -> None:
    scenario.deploy("1", **CANARY)
    scenario.sagemaker.scaled = {"primary"}
    now = scenario.sagemaker.endpoint("")
    assert now is not None
    variants = tuple(dataclasses.replace(variant, instances=10) for variant in now.variants)
    scenario.sagemaker.state = dataclasses.replace(now, variants=variants)
    scenario.deploy("2", **CANARY)
    _, _, request, keep_counts = scenario.sagemaker.changes[-1]
    assert keep_counts
    assert request["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]["CanarySize"]["Value"] == 1
    assert scenario.sagemaker.state is not None
    assert [variant.instances for variant in scenario.sagemaker.state.variants] == [10]


def test_the_first_deployment_replaces_the_bootstrap_model_and_loses_nothing(scenario: Scenario) -> None:
    bootstrap = EndpointState("InService", "scenario-bootstrap", None, (LiveVariant("primary", 1.0, 7),))
    scenario.sagemaker.configs_made["scenario-bootstrap"] = {
        "ProductionVariants": [{"ModelName": "scenario-bootstrap"}]
    }
    scenario.sagemaker.state = bootstrap
    scenario.sagemaker.scaled = {"primary"}
    result = scenario.deploy(
        "1",
        kms_key_arn=KEY,
        capture={"percentage": 20, "uri": "s3://data/capture/scenario"},
        vpc={"subnets": ["subnet-1"], "security_groups": ["sg-1"]},
        **CANARY,
    )
    assert (result.strategy, result.previous_endpoint_config_name) == ("all-at-once", "scenario-bootstrap")
    assert result.strategy_reason == "there is no champion to go back to"
    assert scenario.sagemaker.changes == [("update", result.endpoint_config_name, None, True)]
    live = scenario.sagemaker.state
    assert live is not None
    assert live.capture is not None
    assert live.capture["CurrentSamplingPercentage"] == 20
    assert [(variant.name, variant.instances) for variant in live.variants] == [("primary", 7)]
    config = scenario.sagemaker.configs_made[result.endpoint_config_name]
    assert (config["KmsKeyId"], config["DataCaptureConfig"]["KmsKeyId"]) == (KEY, KEY)
    (model,) = scenario.sagemaker.models_made.values()
    assert model["EnableNetworkIsolation"] is True
    assert model["VpcConfig"] == {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    assert "scenario-bootstrap" in scenario.sagemaker.configs_made, "Terraform's own"


def test_an_endpoint_says_what_it_runs_now_and_whose_it_is(scenario: Scenario) -> None:
    scenario.deploy("1")
    assert scenario.sagemaker.endpoint_tags["ManagedBy"] == "deployer"
    scenario.sagemaker.endpoint_tags |= {"ManagedBy": "terraform", "CostCenter": "7"}
    scenario.deploy("2", owner="new & team")
    tags = scenario.sagemaker.endpoint_tags
    assert (tags["dataset"], tags["owner"], tags["model-version"]) == ("flights", "new _ team", "2")
    assert (tags["ManagedBy"], tags["CostCenter"]) == ("terraform", "7"), "by whom it was made does not change"
    # The same version again: nothing of the endpoint changes but its owner.
    before = len(scenario.sagemaker.changes)
    scenario.deploy("2", owner="third")
    assert (scenario.sagemaker.endpoint_tags["owner"], len(scenario.sagemaker.changes)) == ("third", before)
    # A version that is put back leaves the tags of the one that is live.
    scenario.sagemaker.fates["3"] = "rolls-back"
    assert scenario.run(scenario.prepare("3", owner="fourth")) == 64
    tags = scenario.sagemaker.endpoint_tags
    assert (tags["owner"], tags["model-version"]) == ("third", "2")


def test_an_endpoint_that_takes_no_more_tags_is_live_all_the_same(
    scenario: Scenario, caplog: pytest.LogCaptureFixture
) -> None:
    scenario.deploy("1")
    scenario.sagemaker.refuses = {"tags"}
    assert scenario.deploy("2").model_version == "2"
    assert scenario.alias() == ("2", "1")
    assert "could not tag: " in caplog.text
    assert "at most 50 tags" in caplog.text


def test_a_first_deployment_that_fails_puts_the_bootstrap_model_back(scenario: Scenario) -> None:
    scenario.sagemaker.configs_made["scenario-bootstrap"] = {
        "ProductionVariants": [
            {"VariantName": "primary", "ModelName": "bootstrap", "InitialInstanceCount": 1, "InitialVariantWeight": 1.0}
        ]
    }
    scenario.sagemaker.models_made["bootstrap"] = {"PrimaryContainer": {"Image": "bootstrap"}}
    scenario.sagemaker.state = EndpointState("InService", "scenario-bootstrap", None, (LiveVariant("primary", 1.0, 1),))
    told = failed(scenario, "1", predictions=[0.9, 0.9, 0.9])
    assert "endpoint scenario runs scenario-bootstrap again; there is no champion" in told
    assert scenario.alias() == (None, None)
    assert scenario.marks() == {"1": "rolled-back"}


def test_instances_of_a_variant_with_another_name_are_not_lost(scenario: Scenario) -> None:
    scenario.deploy("1")
    now = scenario.sagemaker.endpoint("")
    assert now is not None
    scenario.sagemaker.state = dataclasses.replace(now, variants=(LiveVariant("AllTraffic", 1.0, 6),))
    prefix = scenario.prepare("2")
    assert scenario.run(prefix) == 64
    assert "set serving.instance_count to at least 6" in scenario.error(prefix).message
    assert scenario.sagemaker.changes == [("create", now.config_name)]


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({ALARMS[0]: "OK"}, f"alarm {ALARMS[1]}: does not exist"),
        ({ALARMS[0]: "ALARM", ALARMS[1]: "OK"}, f"alarm {ALARMS[0]}: is red already"),
    ],
)
def test_alarms_are_looked_at_before_anything_begins(scenario: Scenario, states: dict[str, str], message: str) -> None:
    scenario.deploy("1", **CANARY)
    scenario.sagemaker.alarms = states
    before = set(scenario.sagemaker.models_made)
    prefix = scenario.prepare("2", **CANARY)
    assert scenario.run(prefix) == 64
    assert scenario.error(prefix).kind == "bad-config"
    assert message in scenario.error(prefix).message
    assert set(scenario.sagemaker.models_made) == before
    assert len(scenario.sagemaker.changes) == 1
    # Nor is one that needs longer to turn red than it is watched.
    scenario.sagemaker.alarms = dict.fromkeys(ALARMS, "OK")
    scenario.sagemaker.alarm_seconds = 61
    prefix = scenario.prepare("2", **CANARY)
    assert scenario.run(prefix) == 64
    assert (
        f"alarm {ALARMS[0]}: needs 61 bad seconds to turn red, and is watched for 60" in scenario.error(prefix).message
    )
    assert len(scenario.sagemaker.changes) == 1
    scenario.sagemaker.alarm_seconds = 60
    # What is broken can be left all the same.
    scenario.sagemaker.alarms = dict.fromkeys(ALARMS, "OK")
    scenario.deploy("2", **CANARY)
    scenario.sagemaker.alarms = dict.fromkeys(ALARMS, "ALARM")
    assert scenario.deploy("1", purpose="rollback", **CANARY).strategy == "all-at-once"


# --- What goes wrong -----------------------------------------------------------------------------


def failed(scenario: Scenario, version: str, **options: Any) -> str:
    prefix = scenario.prepare(version, **{**CANARY, **options})
    assert scenario.run(prefix) == 64
    return scenario.error(prefix).message


@pytest.mark.parametrize("how", ["smoke", "alarm", "aliases"])
def test_what_fails_is_put_back(scenario: Scenario, how: str) -> None:
    scenario.deploy("1", **CANARY)
    first = scenario.deploy("2", **CANARY)
    options: dict[str, Any] = {}
    if how == "smoke":
        options, message = {"predictions": [0.9, 0.9, 0.9]}, "row 0: predicted"
    elif how == "alarm":
        scenario.sagemaker.fates["3"], message = "rolls-back", "SageMaker rolled the update back"
    else:
        scenario.mlflow.refuses, message = {"champion"}, "the registry is gone"
    told = failed(scenario, "3", **options)
    assert message in told
    assert f"runs {first.endpoint_config_name} again; the champion is still version 2" in told
    assert scenario.alias() == ("2", "1")
    assert scenario.marks() == {"1": "replaced", "2": "live", "3": "rolled-back"}
    assert scenario.end()["endpoint"].config_name == first.endpoint_config_name
    # And then it works, with the same documents.
    scenario.sagemaker.fates.clear()
    scenario.mlflow.refuses.clear()
    scenario.deploy("3", **CANARY)
    assert scenario.alias() == ("3", "2")


def test_a_failed_endpoint_is_made_anew(scenario: Scenario) -> None:
    scenario.sagemaker.state = EndpointState("Failed", "scenario-bootstrap", "no capacity")
    assert scenario.deploy("1", **CANARY).strategy == "create"
    assert [change[0] for change in scenario.sagemaker.changes] == ["delete", "create"]


def test_an_endpoint_that_could_not_go_back_is_told_clearly(scenario: Scenario) -> None:
    scenario.deploy("1", **CANARY)
    scenario.sagemaker.fates["2"] = "stuck"
    told = failed(scenario, "2")
    assert "UpdateRollbackFailed (mixed): some instances run the old configuration and some the new one" in told
    assert "runbook endpoint-rollback" in told
    assert scenario.alias() == ("1", None)
    told = failed(scenario, "3")
    assert "is UpdateRollbackFailed (mixed); nothing was changed: repair or delete it" in told


def test_what_is_live_must_be_what_was_asked_for_in_full(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario.deploy("1", **CANARY)
    describe = scenario.sagemaker.describe_model

    def other(name: str) -> dict[str, Any] | None:
        model = describe(name)
        if model is None or "-v2-" not in name:
            return model
        container = {**model["PrimaryContainer"], "Environment": {"MODEL_VERSION": "2", "MODEL_DIGEST": "other"}}
        return {**model, "PrimaryContainer": container}

    original = type(scenario.sagemaker).create_config

    def create_config(plan: Any) -> None:  # somebody exchanges the model just after it was made
        original(scenario.sagemaker, plan)
        monkeypatch.setattr(scenario.sagemaker, "describe_model", other)

    monkeypatch.setattr(scenario.sagemaker, "create_config", create_config)
    told = failed(scenario, "2")
    assert "what is live is not what was asked for" in told
    assert "PrimaryContainer.Environment.MODEL_DIGEST is 'other' instead of" in told
    assert scenario.alias() == ("1", None)


# --- Rollback -------------------------------------------------------------------------------------


def test_rollback_and_back_again(scenario: Scenario) -> None:
    one = scenario.deploy("1", **CANARY)
    two = scenario.deploy("2", **CANARY)
    models = dict(scenario.sagemaker.models_made)

    back = scenario.deploy("1", purpose="rollback", serving_image="another:image", **CANARY)
    assert back.endpoint_config_name == one.endpoint_config_name, "the configuration it had"
    assert (back.purpose, back.strategy, back.alarms) == ("rollback", "all-at-once", [])
    assert scenario.sagemaker.changes[-1] == ("update", one.endpoint_config_name, None, False)
    assert scenario.sagemaker.models_made == models
    assert scenario.alias() == ("1", "2")
    assert scenario.marks() == {"1": "live", "2": "rolled-back"}

    again = scenario.deploy("2", purpose="rollback", **CANARY)
    assert again.endpoint_config_name == two.endpoint_config_name
    assert scenario.alias() == ("2", "1")
    assert scenario.marks() == {"1": "rolled-back", "2": "live"}


def test_a_rollback_makes_the_configuration_anew_where_it_is_gone(scenario: Scenario) -> None:
    one = scenario.deploy("1")
    scenario.deploy("2")
    scenario.sagemaker.configs_made.pop(one.endpoint_config_name)
    scenario.sagemaker.models_made = {n: m for n, m in scenario.sagemaker.models_made.items() if "-v1-" not in n}
    scenario.deploy("1", purpose="rollback")
    assert scenario.alias() == ("1", "2")
    assert one.endpoint_config_name in scenario.sagemaker.configs_made


def test_only_the_previous_version_is_rolled_back_to(scenario: Scenario) -> None:
    scenario.deploy("1")
    prefix = scenario.prepare("2", purpose="rollback")
    assert scenario.run(prefix) == 64
    assert "the alias `previous` is not set" in scenario.error(prefix).message
    scenario.deploy("2")
    prefix = scenario.prepare("3", purpose="rollback")
    assert scenario.run(prefix) == 64
    assert "the alias `previous` is version 1 now" in scenario.error(prefix).message


def test_a_rollback_that_fails_leaves_the_champion(scenario: Scenario) -> None:
    scenario.deploy("1")
    two = scenario.deploy("2")
    told = failed(scenario, "1", purpose="rollback", predictions=[0.5, 0.5, 0.5])
    assert f"runs {two.endpoint_config_name} again; the champion is still version 2" in told
    assert scenario.alias() == ("2", "1")
    assert scenario.marks() == {"1": "replaced", "2": "live"}


# --- Experiment -----------------------------------------------------------------------------------


def test_an_experiment_from_its_beginning_to_its_end(scenario: Scenario) -> None:
    alone = scenario.deploy("1", **CANARY)
    started = scenario.deploy("1", experiment=scenario.experiment("2", 0.1), **CANARY)
    assert "variants change from primary to challenger, primary" in started.strategy_reason
    assert {name: (v.model_version, v.share) for name, v in started.variants.items()} == {
        "primary": ("1", pytest.approx(0.9)),
        "challenger": ("2", 0.1),
    }
    assert started.variants["challenger"].smoke_max_difference is None
    assert scenario.alias() == ("1", None)
    assert scenario.marks() == {"1": "live", "2": "challenger"}

    made = (dict(scenario.sagemaker.configs_made), dict(scenario.sagemaker.models_made))
    more = scenario.deploy("1", experiment=scenario.experiment("2", 0.5), **CANARY)
    assert (more.strategy, more.endpoint_config_name) == ("weights", started.endpoint_config_name)
    assert scenario.sagemaker.changes[-1] == ("weights", {"primary": 0.5, "challenger": 0.5})
    assert (scenario.sagemaker.configs_made, scenario.sagemaker.models_made) == made

    ended = scenario.deploy("1", **CANARY)
    assert ended.endpoint_config_name == alone.endpoint_config_name
    assert scenario.marks() == {"1": "live", "2": "experiment-ended"}

    # It can begin again, with the weight of that time.
    scenario.deploy("1", experiment=scenario.experiment("2", 0.2), **CANARY)
    assert scenario.sagemaker.changes[-1] == ("weights", {"primary": 0.8, "challenger": 0.2})
    # And end with the challenger as champion.
    scenario.deploy("2", **CANARY)
    assert scenario.marks() == {"1": "replaced", "2": "live"}
    assert scenario.alias() == ("2", "1")


def test_a_challenger_that_fails_ends_its_experiment_only(scenario: Scenario) -> None:
    alone = scenario.deploy("1")
    scenario.sagemaker.answers["2"] = [0.1, float("nan"), 0.3]
    told = failed(scenario, "1", experiment=scenario.experiment("2", 0.1))
    assert "row 1: the prediction is nan" in told
    assert f"runs {alone.endpoint_config_name} again" in told
    assert scenario.marks() == {"1": "live"}


def test_a_change_of_weights_that_fails_is_put_back(scenario: Scenario) -> None:
    scenario.deploy("1", experiment=scenario.experiment("2", 0.1))
    scenario.sagemaker.answers["2"] = [0.1, float("nan"), 0.3]
    failed(scenario, "1", experiment=scenario.experiment("2", 0.5))
    assert {variant.name: variant.weight for variant in scenario.end()["endpoint"].variants} == {
        "primary": 0.9,
        "challenger": 0.1,
    }


# --- Cleaning up ----------------------------------------------------------------------------------


def test_old_ones_go_but_never_what_is_live_or_before(scenario: Scenario) -> None:
    scenario.sagemaker.configs_made["scenario-bootstrap"] = {"ProductionVariants": []}
    scenario.sagemaker.created["scenario-bootstrap"] = datetime(2026, 1, 1, tzinfo=UTC)
    for version in "1234":
        scenario.deploy(version, kept_configurations=2)
    scenario.deploy("3", purpose="rollback", kept_configurations=1)
    versions = sorted(name.split("-")[1] for name in scenario.sagemaker.configs_made)
    assert versions == ["bootstrap", "v3", "v4"]
    assert sorted(name.split("-")[1] for name in scenario.sagemaker.models_made) == ["v3", "v4"]


def test_endpoints_whose_names_begin_alike_leave_each_other_s_alone(scenario: Scenario) -> None:
    one, other = (f"ml-platform-staging-customer-lifetime-value-{where}" for where in ("north", "south"))
    assert len(one) > 42  # what is left of a configuration's name
    live = scenario.deploy("1", endpoint_name=other).endpoint_config_name
    (model,) = scenario.sagemaker.models_made
    scenario.sagemaker.state, scenario.sagemaker.coming = None, []
    for version in "123":
        scenario.deploy(version, endpoint_name=one, kept_configurations=1)
    assert live in scenario.sagemaker.configs_made
    assert model in scenario.sagemaker.models_made
    assert len(scenario.sagemaker.configs_made) == 3  # and its own: what is live, and the one before


# --- What another release began --------------------------------------------------------------------


def begun(scenario: Scenario, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> str:
    """Let a deployment of version 2 die once the endpoint is asked to change, and its note be of another release."""
    scenario.deploy("1", **CANARY)
    prefix = scenario.prepare("2", predictions=[0.9, 0.9, 0.9], **CANARY)
    with monkeypatch.context() as dying:
        dying.setattr(Rollout, "finish", lambda _: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            scenario.run(prefix)
    scenario.s3.rewrite(f"{prefix}/intent.json", **changes)
    return prefix


def test_what_a_later_release_notes_of_a_deployment_is_ignored(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = begun(scenario, monkeypatch, ticket="OPS-1")
    assert scenario.run(prefix) == 64  # its smoke test fails
    assert "Now endpoint scenario runs" in scenario.error(prefix).message
    assert scenario.alias() == ("1", None)
    live = scenario.sagemaker.endpoint(scenario.NAME)
    assert live is not None
    assert "-v1-" in live.config_name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"schema_version": 3},
            "a newer release wrote it (Intent in schema version 3; this release reads up to 2): the image is older "
            "than the attempt that this one goes on with; run `make images`",
        ),
        (
            {"champion": 1},
            "not a valid Intent: champion: Input should be a valid string; see what is live, and start another "
            "deployment",
        ),
    ],
)
def test_a_note_that_cannot_be_read_is_refused_in_one_sentence(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], reason: str
) -> None:
    prefix = begun(scenario, monkeypatch, **changes)
    asked = list(scenario.sagemaker.changes)
    assert scenario.run(prefix) == 64
    failure = scenario.error(prefix)
    assert (failure.kind, failure.message) == ("bad-config", f"{prefix}/intent.json: {reason}")
    assert scenario.sagemaker.changes == asked


# --- Two at once ----------------------------------------------------------------------------------


def test_the_second_of_two_stops_with_a_clear_message(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario.deploy("1")
    prefix = scenario.prepare("2")
    impatient = functools.partial(DeploymentLock, wait_seconds=0)
    monkeypatch.setattr("deployer.deploy.DeploymentLock", impatient)
    calls = list(scenario.sagemaker.changes)
    with DeploymentLock("s3://data/deployments/flights/lock.json", "another"):
        assert scenario.run(prefix) == 1
    assert "another deployment, another, is at work since" in capsys.readouterr().err
    assert scenario.sagemaker.changes == calls
    assert scenario.run(prefix) == 0


def test_the_second_of_two_waits_until_the_first_has_ended(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario.deploy("1")
    prefix = scenario.prepare("2")
    first = DeploymentLock("s3://data/deployments/flights/lock.json", "another")
    waited: list[int] = []

    def sleep(_: float) -> None:
        waited.append(len(scenario.sagemaker.changes))
        if len(waited) == 3:
            first.__exit__()

    monkeypatch.setattr("deployer.deploy.DeploymentLock", functools.partial(DeploymentLock, sleep=sleep))
    first.__enter__()
    assert scenario.run(prefix) == 0
    assert waited == [1, 1, 1], "the other one's change is not disturbed"
    assert scenario.alias() == ("2", "1")


@pytest.mark.parametrize(
    ("confirmed", "predictions", "changes"),
    [
        (0, None, 1),  # before the update
        (1, None, 2),  # before the champion moves
        (1, [0.9, 0.9, 0.9], 2),  # before what was live is put back
    ],
)
def test_a_deployer_that_lost_its_lock_changes_nothing_more(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch, confirmed: int, predictions: list[float] | None, changes: int
) -> None:
    scenario.deploy("1")
    prefix = scenario.prepare("2", predictions=predictions)
    calls: list[None] = []

    def confirm(_: DeploymentLock) -> None:
        calls.append(None)
        if len(calls) > confirmed:
            raise LockLostError("taken over")

    monkeypatch.setattr(DeploymentLock, "confirm", confirm)
    assert scenario.run(prefix) == 1
    assert len(calls) == confirmed + 1
    assert len(scenario.sagemaker.changes) == changes
    assert scenario.alias() == ("1", None)


# --- A deployer that dies -------------------------------------------------------------------------


def cold_start(scenario: Scenario) -> str:
    return scenario.prepare("1", **CANARY)


def update(scenario: Scenario) -> str:
    scenario.deploy("1", **CANARY)
    return scenario.prepare(
        "2", **CANARY, kms_key_arn=KEY, capture={"percentage": 10, "uri": "s3://data/capture/scenario"}
    )


def update_that_cleans_up(scenario: Scenario) -> str:
    for version in "123":
        scenario.deploy(version)
    return scenario.prepare("4", kept_configurations=1)


def update_that_fails(scenario: Scenario) -> str:
    scenario.deploy("1", **CANARY)
    scenario.deploy("2", **CANARY)
    return scenario.prepare("3", predictions=[0.9, 0.9, 0.9], **CANARY)


def update_that_sagemaker_rolls_back(scenario: Scenario) -> str:
    scenario.deploy("1", **CANARY)
    scenario.sagemaker.fates["2"] = "rolls-back"
    return scenario.prepare("2", **CANARY)


def rollback(scenario: Scenario) -> str:
    scenario.deploy("1", **CANARY)
    scenario.deploy("2", **CANARY)
    return scenario.prepare("1", purpose="rollback", **CANARY)


def failed_endpoint(scenario: Scenario) -> str:
    scenario.sagemaker.state = EndpointState("Failed", "scenario-bootstrap", "no capacity")
    return scenario.prepare("1", **CANARY)


def experiment(scenario: Scenario) -> str:
    scenario.deploy("1", **CANARY)
    return scenario.prepare("1", experiment=scenario.experiment("2", 0.1), **CANARY)


def other_weights(scenario: Scenario) -> str:
    scenario.deploy("1", experiment=scenario.experiment("2", 0.1))
    return scenario.prepare("1", experiment=scenario.experiment("2", 0.5))


def again(scenario: Scenario) -> str:
    scenario.deploy("1", **CANARY)
    return scenario.prepare("1", **CANARY)


@pytest.mark.parametrize(
    "begin",
    [
        cold_start,
        update,
        update_that_cleans_up,
        update_that_fails,
        update_that_sagemaker_rolls_back,
        rollback,
        failed_endpoint,
        experiment,
        other_weights,
        again,
    ],
)
@pytest.mark.parametrize("answer_lost", [False, True])
def test_killed_at_any_call_and_run_again(
    scenario: Scenario, begin: Callable[[Scenario], str], answer_lost: bool
) -> None:
    prefix = begin(scenario)
    undisturbed, whole = scenario.twin(), Death()
    code = undisturbed.run(prefix, whole)
    wanted = undisturbed.end()
    assert len(whole.calls) > 10
    for number in range(1, len(whole.calls) + 1):
        killed = scenario.twin()
        with pytest.raises(Killed):
            killed.run(prefix, Death(number, answer_lost))
        where = f"call {number} of {len(whole.calls)}, {whole.calls[number - 1]}"
        assert killed.run(prefix) == code, where
        assert killed.end() == wanted, where
