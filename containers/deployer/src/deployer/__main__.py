"""Command line: ``python -m deployer deploy --config … --input … --output …``, and ``variants`` for people."""

from __future__ import annotations

import logging
import os
import sys

from mlplatform.steps import StepDefinition, main

# Loggers that say at INFO what is no news, and the level from which they are heard. The last one warns at every
# request that the tracking server is not SageMaker's, by a plugin that the SageMaker SDK installs.
QUIET = {
    "sagemaker": logging.WARNING,
    "mlflow.tracking.request_header.registry": logging.ERROR,
}


def _deploy() -> StepDefinition:
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from deployer.deploy import run
    from mlplatform.results import DeployResult

    return StepDefinition(run, DeployResult)


if __name__ == "__main__":
    if sys.argv[1:2] == ["variants"]:
        from deployer import variants

        sys.exit(variants.main(sys.argv[2:]))
    sys.exit(main("deployer", {"deploy": _deploy}, sys.argv[1:]))
