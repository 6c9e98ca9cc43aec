"""`make open`: the three on localhost, until Ctrl-C."""

from __future__ import annotations

import contextlib
import select
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import botocore.exceptions

from cloud.access.forwards import LOCAL, Forward, forwarded
from cloud.access.targets import AIRFLOW, KUBERNETES, targets
from cloud.cluster_config import Cluster, describe, kubeconfig_for, write_kubeconfig
from cloud.environments import Environment

Say = Callable[[str], None]
SIGN_IN = "/pluginsv2/aws_mwaa/aws-console-sso?login=true#"
"""Where MWAA's page takes the token of `CreateWebLoginToken`; Airflow 2 had it without `/pluginsv2`.

https://docs.aws.amazon.com/mwaa/latest/userguide/access-mwaa-apache-airflow-rest-api.html
"""
STAY = "Enter makes a new link, Ctrl-C closes all"


def open_ways(environment: Environment, say: Say) -> None:
    """Lead to Airflow's page, MLflow and the Kubernetes API, say where they are, and stay until Ctrl-C.

    Raises:
        CloudError: there is no way in, something does not answer, or a session has ended.
    """
    outputs = environment.outputs
    cluster = describe(outputs["cluster_name"], outputs["region"])
    with (
        forwarded(environment, targets(environment), say, some_will_do=True) as forwards,
        contextlib.ExitStack() as files,
    ):
        by_name = {forward.target.name: forward for forward in forwards}
        path = None
        if api := by_name.get(KUBERNETES):
            # By its port, which is another one while this environment is open elsewhere on this machine.
            path = environment.root / ".local" / "open" / environment.name / f"kubeconfig-{api.port}"
            files.callback(path.unlink, missing_ok=True)
            write_kubeconfig(path, forwarded_kubeconfig(cluster, api))
        for line in addresses(forwards, path):
            say(line)

        def tell_how_to_sign_in() -> None:
            if page := by_name.get(AIRFLOW):
                say(sign_in(environment, page))

        tell_how_to_sign_in()
        say(STAY)
        try:
            _stay(forwards, tell_how_to_sign_in)
        except KeyboardInterrupt:
            say(f"closed: nothing of {environment.name} is on {LOCAL} any more")


def addresses(forwards: Sequence[Forward], kubeconfig: Path | None) -> list[str]:
    """Return where everything is, for people."""
    lines = [f"{forward.target.name:10} {forward.address}" for forward in forwards]
    strangers = [forward for forward in forwards if forward.target.tls and forward.target.name != KUBERNETES]
    lines += [
        f"  {forward.target.name}'s certificate was checked: it is for {forward.target.host}. Your browser warns that "
        f"this is not {LOCAL}; go on"
        for forward in strangers
    ]
    return [*lines, f"  kubectl: export KUBECONFIG={kubeconfig}"] if kubeconfig else lines


def sign_in(environment: Environment, page: Forward) -> str:
    """Return a link that signs the caller in to Airflow's page, or why there is none: the rest stays open."""
    try:
        token = environment.client("mwaa").create_web_login_token(Name=environment.outputs["airflow_environment"])
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        return f"There is no link to sign in to Airflow: {error}"
    who = token.get("IamIdentity") or "you"
    return f"Sign in to Airflow as {who}, within a minute:\n  {page.address}{SIGN_IN}{token['WebToken']}"


def forwarded_kubeconfig(cluster: Cluster, forward: Forward) -> dict[str, Any]:
    """Return a kubeconfig that goes to the forwarded port and expects the certificate of the API's own name there."""
    config: dict[str, Any] = kubeconfig_for(cluster)
    (entry,) = config["clusters"]
    entry["cluster"] |= {"server": forward.address, "tls-server-name": forward.target.host}
    return config


def _stay(forwards: Sequence[Forward], on_enter: Callable[[], None]) -> None:
    """Return never.

    Raises:
        CloudError: a session has ended.
    """
    asking = sys.stdin is not None and sys.stdin.isatty()
    while True:
        if select.select([sys.stdin] if asking else [], [], [], 1)[0]:
            asking = bool(sys.stdin.readline())
            on_enter()
        for forward in forwards:
            forward.see_that_it_runs()
