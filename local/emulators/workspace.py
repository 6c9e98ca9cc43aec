"""A copy of the project whose Terraform roots are applied to an emulated account.

The roots, their backends and the commands of `cloud/` run unchanged; what they write beside the roots (`.terraform`,
`backend.tf`, variable files) stays in the copy.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cloud import document_versions, platform_file, regions, wheels
from cloud.platform_file import Platform
from cloud.terraform import Terraform, TerraformError
from local.emulators.emulated import EmulatedAws
from local.images import Image
from local.platform import images as local_images
from local.platform.home import ROOT

_COPIED = ("cloud", "config", "dags", "local", "terraform")
_IGNORED = shutil.ignore_patterns(".terraform", "terraform.tfstate*", "*.auto.tfvars.json", "backend.tf", "__pycache__")
REPOSITORY = "your-org/ml-platform"
PLATFORM = Platform(name="ml-platform", region_in_names=True)
"""Whatever the project that is copied is called."""
DEPLOYMENT = "deployment"
"""What commands on an environment call themselves to AWS."""


class Workspace:
    """The project as somebody would have it checked out who deploys to the emulated account."""

    def __init__(self, folder: Path, aws: EmulatedAws, root: Path = ROOT) -> None:
        self.folder = folder
        self.aws = aws
        self.ran: list[tuple[str, ...]] = []
        """What `cloud` was asked to do, in order."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _COPIED:
            shutil.copytree(root / name, folder / name, ignore=_IGNORED)
        (folder / platform_file.FILE).write_text(PLATFORM.model_dump_json(), encoding="utf-8")  # YAML, too
        # Checks of the bundle use the project's environments.
        (folder / ".local").mkdir()
        (folder / ".local" / "envs").symlink_to(root / ".local" / "envs")
        # `make apply` would fetch 88 MiB from a package index; it takes an archive that is there.
        archive = wheels.archive(folder)
        archive.parent.mkdir()
        wheels.pack([], archive)
        registry = f"{aws.registry_host}/{PLATFORM.name}"
        self.images = {
            name: f"{registry}/{name.replace('_', '-')}@sha256:{hashlib.sha256(name.encode()).hexdigest()}"
            for name in ("deployer", "mlflow", "serving", "trainer", "trainer_cuda")
        }
        aws.add_images({self.images["serving"]: serving_image(str(folder))})

    @property
    def environment(self) -> dict[str, str]:
        """Variables for commands that run in the workspace."""
        return {**self.aws.environment, "PYTHONPATH": str(self.folder), "TF_IN_AUTOMATION": "1"}

    @property
    def terraform_environment(self) -> dict[str, str]:
        """Variables for Terraform in a root without `cloud`, which tells it the region."""
        return {**self.environment, regions.VARIABLE: self.aws.region}

    def root(self, name: str) -> Path:
        """Return the folder of an environment's root, or of `bootstrap`."""
        terraform = self.folder / "terraform"
        return terraform / name if name == "bootstrap" else terraform / "environments" / name

    def bootstrap(self) -> None:
        """Make the account ready: state bucket, image repositories, CI role.

        Raises:
            TerraformError: it failed.
        """
        self.cloud("bootstrap", "--github-repository", REPOSITORY, "--yes", application="bootstrap")

    def configure(self, name: str, values: Mapping[str, object] | None = None) -> None:
        """Write an environment's variables: the images, and further values."""
        root = self.root(name)
        (root / "images.auto.tfvars.json").write_text(json.dumps({"images": self.images}))
        versions = document_versions.of_library(self.folder / "dags")
        document_versions.write(root / document_versions.FILE, self.images, "0" * 40, versions)
        (root / "emulated.auto.tfvars.json").write_text(json.dumps(dict(values or {})))

    def terraform(self, name: str) -> Terraform:
        """Return Terraform in an environment's root, initialised with its own backend."""
        terraform = Terraform(self.root(name), self.terraform_environment)
        bucket = PLATFORM.state_bucket(self.aws.account, self.aws.region)
        terraform.init("-reconfigure", f"-backend-config=bucket={bucket}", f"-backend-config=region={self.aws.region}")
        return terraform

    def terraform_of_bootstrap(self) -> Terraform:
        """Return Terraform in the bootstrap root, with the backend that bootstrapping wrote."""
        terraform = Terraform(self.root("bootstrap"), self.environment)
        terraform.init()
        return terraform

    def cloud(
        self,
        *arguments: str,
        check: bool = True,
        timeout: float = 900,
        application: str = DEPLOYMENT,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `python -m cloud` as a person would, with further variables or none.

        The account's journal has its calls under `application`.

        Raises:
            TerraformError: it ended with another exit code than 0, and `check` is set.
        """
        self.ran.append(arguments)
        done = subprocess.run(
            [sys.executable, "-m", "cloud", *arguments],
            cwd=self.folder,
            env={**_inherited(), **self.environment, "AWS_SDK_UA_APP_ID": application, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            said = f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
            raise TerraformError(f"python -m cloud {' '.join(arguments)} failed:\n{said}")
        return done


def serving_image(marker: str) -> Image:
    """Return how this machine runs the serving image."""
    return local_images.image("serving", marker)


def _inherited() -> dict[str, str]:
    """The caller's environment without an account of its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "ML_PLATFORM_STATE"))}
