"""One AWS provider for many Terraform commands.

Terraform starts the provider for each command, even for each `run` of its tests, and most of what those cost is that
start and the provider's schema. A provider in debug mode is started once and stays
(https://developer.hashicorp.com/terraform/internals/debugging).

It has one configuration at a time. So commands that configure it, which those with a mock provider do not, may share
one only one after the other.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cloud.terraform import Terraform

TERRAFORM = Path(__file__).parents[1] / "terraform"
_ATTACH = "TF_REATTACH_PROVIDERS"
# The provider ends with this process, however this process ends: the pipe that the shell reads is closed then.
_TIED_TO_STDIN = '"$0" -debug & exec >&-; read -r _; kill $!; wait'


def install(folder: Path) -> Path:
    """Install the locked provider in an empty folder; return its executable."""
    shutil.copy(TERRAFORM / "modules" / "network" / "versions.tf", folder)
    shutil.copy(TERRAFORM / "bootstrap" / ".terraform.lock.hcl", folder)
    Terraform(folder).init("-lockfile=readonly")
    (found,) = folder.glob(".terraform/providers/*/hashicorp/aws/*/*/terraform-provider-aws*")
    return found


@contextmanager
def running(executable: Path, environment: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """Run a provider until the end of the block.

    Args:
        executable: of the provider.
        environment: what leads it to an account.

    Yields:
        The environment with what Terraform needs besides to use the provider.
    """
    environment = dict(environment or {})
    machine = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
    process = subprocess.Popen(
        ["sh", "-c", _TIED_TO_STDIN, str(executable)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=machine | environment,
        text=True,
        start_new_session=True,
    )
    assert process.stdin
    assert process.stdout
    try:
        said = [process.stdout.readline()]
        while f"{_ATTACH}=" not in said[-1]:
            assert said[-1], f"{executable} did not start: {''.join(said)}"
            said.append(process.stdout.readline())
        name, _, value = shlex.split(said[-1])[0].partition("=")
        yield environment | {name: value}
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()
