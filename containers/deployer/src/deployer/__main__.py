"""Command line: ``python -m deployer deploy --config … --input … --output …``."""

from __future__ import annotations

import sys

from mlplatform.steps import StepDefinition, main


def _deploy() -> StepDefinition:
    from deployer.deploy import run
    from mlplatform.results import DeployResult

    return StepDefinition(run, DeployResult)


if __name__ == "__main__":
    sys.exit(main("deployer", {"deploy": _deploy}, sys.argv[1:]))
