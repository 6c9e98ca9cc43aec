"""The command `python -m local demo`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from local.cli import HomeOption, app, up
from local.pipeline.attached import AttachedPlatform
from local.pipeline.demo import DemoFailed, tell
from local.platform.home import Home, PlatformError


@app.command()
def demo(
    home: HomeOption = None,
    months: Annotated[int, typer.Option("--months", min=1, max=2, help="How many months land.")] = 2,
) -> None:
    """Tell the whole story: start an empty platform, land data, train, compare, deploy, predict.

    A platform that runs already is replaced. The new one stays up afterwards.
    """
    console = Console(highlight=False, width=None if Console().is_terminal else 120)
    up(home=home, fresh=True)
    try:
        tell(AttachedPlatform(Home.resolve(home)), console, months)
    except KeyboardInterrupt:
        console.print("\ninterrupted; the platform stays up: `make local-status` shows it, `make local-down` stops it")
        raise typer.Exit(130) from None
    except (DemoFailed, PlatformError, TimeoutError, RuntimeError) as error:
        console.print(f"\nthe demo failed: {error}", style="red", markup=False)
        console.print("The platform stays up for you to look at; `make local-down` stops it.")
        raise typer.Exit(1) from None
