"""The command `python -m local demo`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from local import bootstrap
from local.cli import HomeOption, app, up
from local.datasets import DATASETS, load
from local.pipeline.attached import AttachedPlatform
from local.pipeline.demo import STORY, DemoFailed, tell
from local.platform.home import ROOT, Home, PlatformError, use_dag_library
from local.platform.images import RECIPES


@app.command()
def demo(
    home: HomeOption = None,
    dataset: Annotated[str, typer.Option("--dataset", help=f"One of {', '.join(DATASETS)}.")] = "flights",
    model: Annotated[
        str | None, typer.Option("--model", help="Model family: a file in config/families. Default: the platform's.")
    ] = None,
    acts: Annotated[int, typer.Option("--acts", min=1, max=len(STORY), help="How many acts, from the first.")] = len(
        STORY
    ),
) -> None:
    """Tell the whole story: start an empty platform, land data, train, compare, approve, deploy, go back.

    A platform that runs already is replaced. The new one stays up afterwards.
    """
    console = Console(highlight=False, width=None if Console().is_terminal else 120)
    try:
        check_choice(dataset, model)
        if model:
            set_up_image(model)
    except (PlatformError, bootstrap.SetupError) as error:
        console.print(f"the demo cannot start: {error}", style="red", markup=False)
        raise typer.Exit(2) from None
    up(home=home, fresh=True)
    try:
        tell(AttachedPlatform(Home.resolve(home)), console, load(dataset), model, acts)
    except KeyboardInterrupt:
        console.print("\ninterrupted; the platform stays up: `make local-status` shows it, `make local-down` stops it")
        raise typer.Exit(130) from None
    except (DemoFailed, PlatformError, TimeoutError, RuntimeError) as error:
        console.print(f"\nthe demo failed: {error}", style="red", markup=False)
        console.print("The platform stays up for you to look at; `make local-down` stops it.")
        raise typer.Exit(1) from None


def check_choice(dataset: str, model: str | None) -> None:
    """Make sure that the demo can land the dataset and that the dataset's configuration has the family.

    Raises:
        PlatformError: it cannot, or has not.
    """
    if dataset not in DATASETS:
        raise PlatformError(f"DATASET={dataset}: there is none; choose from {', '.join(DATASETS)}")
    use_dag_library()
    from mlplatform.config import loading
    from mlplatform.errors import ConfigError

    try:
        families = sorted(loading.load_model(dataset, ROOT).families)
    except ConfigError as error:
        raise PlatformError(str(error)) from None
    if model is not None and model not in families:
        raise PlatformError(f"MODEL={model}: config/models/{dataset}.yaml has {', '.join(families)}")


def set_up_image(model: str) -> None:
    """Set up the environment of an optional image that a family needs; several gigabytes for PyTorch.

    Raises:
        PlatformError: the family's file is wrong.
        SetupError: the environment could not be made.
    """
    use_dag_library()
    from mlplatform.config import loading

    recipe = RECIPES[loading.load_family(model, ROOT).image]
    if recipe.optional:
        bootstrap.setup([recipe.environment])
