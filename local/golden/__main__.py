"""``python -m local.golden VERSION``: what this release writes, kept so that later ones can prove they read it."""

from __future__ import annotations

import os
import re
from typing import Annotated

import typer
from rich.console import Console

from local.cli import HomeOption, down, up
from local.golden import collect, scenario
from local.pipeline.attached import AttachedPlatform
from local.platform import control
from local.platform.home import ROOT, Home, use_dag_library

SETS = ROOT / "tests" / "golden"
console = Console(highlight=False, soft_wrap=True)


def main(
    version: Annotated[str, typer.Argument(help="Of the release, such as 0.2.0; names the set's folder.")],
    home: HomeOption = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the platform running.")] = False,
) -> None:
    """Start an empty local platform, have everything happen on it, and write down what is left."""
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise typer.BadParameter(f"{version!r} is no version such as 0.2.0")
    target = SETS / version
    if target.exists():
        raise typer.BadParameter(f"{target} is there already: a release's set never changes")
    up(home=home, fresh=True)
    try:
        platform = AttachedPlatform(Home.resolve(home))
        use_dag_library()
        os.environ |= control.client_environment(control.load_facts(platform.home, platform.state))
        scenario.tell(platform, console)
        collect.collect(platform, target, version)
    finally:
        if not keep:
            down(home=home)


if __name__ == "__main__":
    typer.run(main)
