"""Run Terraform in one root folder, with its provider taken from a mirror on disk where the machine has one."""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cloud.errors import CloudError

ROOT = Path(__file__).resolve().parent.parent
PROVIDER_VERSION = "5.100.0"
MINIMUM = (1, 11)  # S3 state locking without DynamoDB
PLUGIN_DIR = "ML_PLATFORM_TERRAFORM_PLUGIN_DIR"
"""Environment variable that names a provider mirror; see `terraform init -plugin-dir`."""
_MIRROR_PLACES = ("/opt/*", "/usr/share/terraform/*", "/usr/local/share/terraform/*", "~/.terraform.d/*")


class TerraformError(CloudError):
    """Terraform ended with an error; the message holds its own words."""


def executable() -> str:
    """Return the path of a usable Terraform.

    Raises:
        CloudError: there is none, or it is too old.
    """
    found = shutil.which("terraform")
    wanted = ".".join(map(str, MINIMUM))
    if not found:
        raise CloudError(f"terraform was not found on PATH: install {wanted} or newer")
    version = _version(found)
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < MINIMUM:
        raise CloudError(f"{found} is Terraform {version}: install {wanted} or newer")
    return found


@functools.cache
def _version(found: str) -> str:
    shown = subprocess.run([found, "version", "-json"], capture_output=True, text=True, env=_environment()).stdout
    version: str = json.loads(shown or "{}").get("terraform_version", "0")
    return version


def plugin_dir() -> Path | None:
    """Return a mirror on this machine that has the locked provider, or None: Terraform asks the registry then."""
    if named := os.environ.get(PLUGIN_DIR):
        return Path(named)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    provider = f"*/hashicorp/aws/{PROVIDER_VERSION}/{platform.system().lower()}_{machine}"
    for place in _MIRROR_PLACES:
        pattern = str(Path(place).expanduser())
        for folder in sorted(Path("/").glob(f"{pattern.lstrip('/')}/{provider}")):
            return folder.parents[4]
    return None


class Terraform:
    """Terraform in one root folder."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._environment = _environment(environment)
        self._executable = executable()

    def init(self, *arguments: str) -> None:
        """Fetch the provider and the modules and set up the backend.

        Raises:
            TerraformError: it failed.
        """
        mirror = plugin_dir()
        self.run("init", "-input=false", *([f"-plugin-dir={mirror}"] if mirror else []), *arguments)

    def run(
        self, *arguments: str, check: bool = True, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command quietly and return what it printed, without colours.

        Raises:
            TerraformError: it ended with another exit code than 0, and `check` is set.
        """
        done = subprocess.run(
            self.command(*arguments), env=self._environment, capture_output=True, text=True, timeout=timeout
        )
        if check and done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip())[-8000:]
            raise TerraformError(f"terraform {' '.join(arguments)} in {self.folder} failed:\n{said}")
        return done

    def stream(self, *arguments: str) -> None:
        """Run a command with its output going to the terminal.

        Raises:
            TerraformError: it ended with another exit code than 0.
        """
        if subprocess.run(self.command(*arguments, colour=True), env=self._environment).returncode != 0:
            raise TerraformError(
                f"terraform {arguments[0]} failed in {self.folder.name}, see above; what was made is recorded, and the "
                "same command goes on from there"
            )

    def output(self) -> dict[str, Any]:
        """Return the root's outputs by name.

        Raises:
            TerraformError: the state cannot be read.
        """
        shown = json.loads(self.run("output", "-json").stdout)
        return {name: entry["value"] for name, entry in shown.items()}

    def show(self, *plan: str) -> dict[str, Any]:
        """Return the state, or a saved plan, as Terraform's JSON."""
        shown: dict[str, Any] = json.loads(self.run("show", "-json", *plan).stdout)
        return shown

    def has_state(self) -> bool:
        """Whether anything is in the state; without the provider's schema, which `show` needs.

        Raises:
            TerraformError: the state cannot be read.
        """
        state = json.loads(self.run("state", "pull").stdout or "{}")
        return bool(state.get("resources") or state.get("outputs"))

    def command(self, *arguments: str, colour: bool = False) -> Sequence[str]:
        """Return the whole command line."""
        plain = (
            [] if colour or arguments[0] in ("fmt", "output", "providers", "show", "state", "import") else ["-no-color"]
        )
        return [self._executable, f"-chdir={self.folder}", arguments[0], *plain, *arguments[1:]]


def _environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's environment and more, without a command line configuration that does not exist."""
    # Most of the garbage is of one schema, 14 MB: to collect it less often saves a quarter of the processor's time.
    environment = {"GOGC": "400", **os.environ, "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1", **(more or {})}
    config = environment.get("TF_CLI_CONFIG_FILE")
    if config and not Path(config).exists():
        del environment["TF_CLI_CONFIG_FILE"]
    return environment
