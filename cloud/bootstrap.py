"""What an account needs once: its own Terraform root, whose state moves into the bucket that it makes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cloud import files, regions
from cloud.errors import CloudError
from cloud.terraform import ROOT, Terraform

VALUES = "terraform.tfvars.json"
Say = Callable[[str], None]

_BACKEND = """# Written by `make bootstrap`: where this root's own state is. Commit it.
terraform {{
  backend "s3" {{
    bucket       = "{bucket}"
    key          = "bootstrap/terraform.tfstate"
    region       = "{region}"
    use_lockfile = true
  }}
}}
"""


def bootstrap(values: dict[str, str], say: Say, *, approved: bool, folder: Path = ROOT / "terraform/bootstrap") -> None:
    """Apply the root, and move its state from disk into the bucket. Safe to run again.

    Args:
        values: variables to write down beside the root, such as `github_repository`; those given before stay. Without a
            `region` it is the one that the tools are set to.
        say: told of each step.
        approved: whether Terraform need not ask.
        folder: the root.

    Raises:
        CloudError: Terraform failed, a variable is missing, or the account was bootstrapped in another region.
    """
    _remember(folder / VALUES, values | {"region": regions.of_root(folder, values.get("region"))})
    terraform = Terraform(folder)
    terraform.init()
    terraform.stream("apply", *(["-auto-approve", "-input=false"] if approved else []))
    backend = folder / regions.BACKEND
    if not backend.exists():
        outputs = terraform.output()
        files.write(backend, _BACKEND.format(bucket=outputs["state_bucket"], region=outputs["region"]))
    if (folder / "terraform.tfstate").exists():
        say("moving the state into the bucket")
        terraform.init("-migrate-state", "-force-copy")
        for left in ("terraform.tfstate", "terraform.tfstate.backup"):
            (folder / left).unlink(missing_ok=True)
    say(f"done: commit terraform/bootstrap/{VALUES} and {regions.BACKEND}, they hold no secret")


def _remember(path: Path, values: dict[str, str]) -> None:
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise CloudError(f"{path}: is not JSON: {error}") from None
    if "github_repository" not in known | values:
        raise CloudError("name the repository that may deploy: make bootstrap GITHUB_REPOSITORY=owner/name")
    if values.items() <= known.items():
        return
    files.write(path, json.dumps(known | values, indent=2) + "\n")
