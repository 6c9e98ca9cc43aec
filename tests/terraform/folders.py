"""Which folders hold Terraform code."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TERRAFORM = ROOT / "terraform"
MODULES = sorted(path.parent for path in TERRAFORM.glob("modules/*/versions.tf"))
BOOTSTRAP = TERRAFORM / "bootstrap"
ENVIRONMENTS = sorted(path.parent for path in TERRAFORM.glob("environments/*/versions.tf"))
ROOTS = [BOOTSTRAP, *ENVIRONMENTS]
ALL = [*MODULES, *ROOTS]
TESTED = [folder for folder in ALL if any(folder.glob("tests/*.tftest.hcl"))]


def name_of(folder: Path) -> str:
    """Return a folder as people write it, from the root of the repository."""
    return str(folder.relative_to(ROOT))
