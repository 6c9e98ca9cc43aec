"""The README's way to AWS, command by command."""

from __future__ import annotations

import re
import shlex

import pytest

from cloud.terraform import ROOT
from tests import readme
from tests.emulated.support import Story
from tests.makefile import handed_on

# What no emulator here can answer, and where it is tested instead.
ELSEWHERE = {
    "images": "tests/images/test_release.py",  # wants Docker; really run there, in an emulated account with a registry
    "open": "tests/emulated/test_access.py",  # stays until Ctrl-C
    "cluster-config": "tests/kubernetes/test_cluster_config.py",  # wants a Kubernetes API
    "train": "tests/e2e/test_train_in_mwaa.py",  # wants a running Airflow
}


@pytest.mark.parametrize("name", ["dev"])
def test_the_way_to_aws(story: Story) -> None:
    commands = readme.commands(in_aws=True)
    assert commands[0] == f"export AWS_REGION={story.aws.region}"
    recipes = [handed_on(*shlex.split(command)[1:]) for command in commands[1:]]
    assert [arguments[0] for arguments in recipes] == [
        "preflight",
        "bootstrap",
        "images",
        "apply",
        "cluster-config",
        "push-dags",
        "smoke",
        "train",
        "open",
    ]
    ran = {tuple(argument for argument in arguments if argument != "--yes") for arguments in story.workspace.ran}
    for arguments in recipes:
        if arguments[0] in ELSEWHERE:
            assert (ROOT / ELSEWHERE[arguments[0]]).exists()
        else:
            assert tuple(arguments) in ran


@pytest.mark.parametrize("name", ["dev"])
def test_preflight_tells_what_to_ask_for_and_is_content_once_it_is_granted(story: Story) -> None:
    first, granted, applied = story.preflights
    told = readme.printed("dev in account")
    for line in told:
        assert line in first.stdout, f"the README shows another line than preflight prints:\n{first.stdout}"
    assert first.returncode == 3
    assert granted.returncode == 0, granted.stdout
    # What the environment is made of counts as in use, and is not needed again.
    too_small = re.findall(r"^ +(\S.*?) {2,}.*too small", applied.stdout, re.MULTILINE)
    # Bastions of the other environments, which are made at the same time, have the vCPUs that were asked for.
    assert set(too_small) <= {"standard on demand vCPUs"}, applied.stdout
    for what in ("VPCs", "internet gateways", "elastic IPs", "EKS clusters", "MWAA environments", "RDS instances"):
        assert re.search(rf"^ +{what} +[0-9]+ +0  enough", applied.stdout, re.MULTILINE), applied.stdout


@pytest.mark.parametrize("name", ["dev"])
def test_smoke_tells_what_works_and_what_does_not(story: Story) -> None:
    done = story.smoked
    told = dict(re.findall(r"^(?:ok|failed) +([a-z]+): (.*)$", done.stdout, re.MULTILINE))
    failed = set(re.findall(r"^failed +([a-z]+):", done.stdout, re.MULTILINE))
    assert set(told) == {"airflow", "dags", "pools", "cluster", "mlflow", "endpoints", "alarms", "rollback", "access"}
    # The emulators run no Airflow and no ECS tasks, and say so; everything else is there.
    assert failed <= {"dags", "mlflow"}, done.stdout
    assert told["pools"] == "5 pools"
    assert told["airflow"].endswith("Airflow 3.2.1")
    assert told["rollback"] == "alarms watch over flights"
    assert told["access"] == "Airflow, MLflow, Kubernetes by `make open ENV=dev`"
    assert "ml-platform-dev-flights waits for its first model" in told["endpoints"]
    assert done.returncode == (1 if failed else 0)
