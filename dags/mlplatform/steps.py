"""The contract every container step keeps.

``python -m <package> <step> --config s3://… --input s3://… --output s3://…``

* ``--config`` is a `RunConfig`, ``--input`` and ``--output`` are prefixes.
* ``<output>/result.json`` is written last, and only when all went well. A step that finds a valid one
 there has nothing to do and says so: retry, reattach and trigger again are free.
* Exit 0: done. Exit 64: the input or the configuration is bad; trying again would not help. The reason
 is in ``<output>/error.json`` and in the last line on stderr. Anything else may be tried again.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module

from mlplatform import storage
from mlplatform.documents.deployment import DeployResult
from mlplatform.documents.evaluation import EvaluateResult
from mlplatform.documents.monitoring import MonitorResult
from mlplatform.documents.results import PrepareResult, StepFailure, StepResult, TrainResult, ValidateResult
from mlplatform.documents.run import RunConfig
from mlplatform.errors import NewerReleaseError, NonRetryableError, StorageError, UnavailableError


@dataclass(frozen=True)
class StepSpec:
    """What the images and Airflow have to know of a container step; its resources are in the configuration.

    Attributes:
        module: with the function ``run(context: StepContext)``, in the image that its package is named after.
        result: what the function returns.
        has_report: whether it writes ``report.html``, whose address is the result's ``report_uri``.
    """

    module: str
    result: type[StepResult]
    has_report: bool = False

    @property
    def package(self) -> str:
        """Name of the package, and of the image in the settings that it is in."""
        return self.module.partition(".")[0]


STEPS: Mapping[str, StepSpec] = {
    "validate": StepSpec("trainer.validate", ValidateResult, has_report=True),
    "prepare": StepSpec("trainer.prepare", PrepareResult),
    "train": StepSpec("trainer.train", TrainResult),
    "evaluate": StepSpec("trainer.evaluate", EvaluateResult, has_report=True),
    "deploy": StepSpec("deployer.deploy", DeployResult),
    "monitor": StepSpec("trainer.monitor", MonitorResult, has_report=True),
}
"""One entry per step; docs/how-to/add-a-step.md."""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_NON_RETRYABLE = 64
"""EX_USAGE of sysexits.h: the caller is wrong, not the moment."""
RESULT = "result.json"
ERROR = "error.json"
REPORT = "report.html"
"""Beside the result of a step that has a report."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepContext:
    """What a step is called with."""

    config: RunConfig
    input: str
    output: str
    started_at: datetime


Run = Callable[[StepContext], StepResult]


def run_step(name: str, run: Run, config_uri: str, input_uri: str, output_uri: str) -> int:
    """Run one step under the contract and return the exit code."""
    result_uri = storage.join(output_uri, RESULT)
    try:
        if storage.try_read_document(result_uri, STEPS[name].result) is not None:
            log.info("%s: nothing to do, %s is already there", name, result_uri)
            return EXIT_DONE
    except StorageError as error:
        log.warning("%s; doing the step again", error)
    started = time.monotonic()
    try:
        try:
            config = storage.read_document(config_uri, RunConfig)
        except NewerReleaseError as error:
            raise NonRetryableError(
                f"{error}: the images are older than the DAG bundle; run `make images` and `make apply`",
                kind="bad-config",
            ) from None
        except StorageError as error:
            raise NonRetryableError(str(error), kind="bad-config") from None
        result = run(StepContext(config, input_uri.rstrip("/"), output_uri.rstrip("/"), datetime.now(UTC)))
        storage.write_document(result_uri, result)
    except NonRetryableError as refused:
        failure = StepFailure(step=name, kind=refused.kind, message=str(refused), subjects=refused.subjects)
        storage.write_document(storage.join(output_uri, ERROR), failure)
        sys.stdout.flush()
        print(f"{name}: {refused}", file=sys.stderr, flush=True)
        return EXIT_NON_RETRYABLE
    except Exception as error:
        reason = surroundings(error)
        if reason is None:
            raise
        log.debug("%s failed", name, exc_info=True)
        sys.stdout.flush()
        print(f"{name}: {reason}", file=sys.stderr, flush=True)
        return EXIT_FAILED
    log.info("%s: done in %.1f s, result in %s", name, time.monotonic() - started, result_uri)
    return EXIT_DONE


def disk_is_full(error: BaseException) -> bool:
    """Tell whether an error is of a full disk; libraries wrap it in errors of their own, which quote it."""
    return getattr(error, "errno", None) == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error)


def surroundings(error: BaseException) -> str | None:
    """Say in one sentence what was missing around the step, None where the error is of another kind.

    A traceback tells people nothing there: the disk is full, AWS refuses or does not answer.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, UnavailableError):
        return str(error)
    if disk_is_full(error):
        folder = tempfile.gettempdir()
        return (
            f"the disk is full: {error} ({shutil.disk_usage(folder).free / 2**20:.0f} MiB free in {folder}); "
            "give the pod more ephemeral storage"
        )
    if isinstance(error, BotoCoreError | ClientError | Boto3Error):
        return f"AWS: {error}"
    return None


def main(package: str, argv: Sequence[str]) -> int:
    """Parse a package's command line and run the step it names; only that step imports its libraries."""
    parser = argparse.ArgumentParser(prog=f"python -m {package}", description="Run one step of the training pipeline.")
    parser.add_argument("step", choices=sorted(name for name, step in STEPS.items() if step.package == package))
    parser.add_argument("--config", required=True, metavar="URI", help="s3:// address of the run's configuration")
    parser.add_argument("--input", required=True, metavar="URI", help="s3:// prefix the step reads from")
    parser.add_argument("--output", required=True, metavar="URI", help="s3:// prefix the step writes to")
    try:
        arguments = parser.parse_args(argv)
        for uri in (arguments.config, arguments.input, arguments.output):
            storage.split_uri(uri)
    except SystemExit as stop:  # argparse exits with 2, which would be tried again
        return EXIT_DONE if stop.code in (0, None) else EXIT_NON_RETRYABLE
    except ValueError as error:
        print(f"{package}: {error}", file=sys.stderr)
        return EXIT_NON_RETRYABLE
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)  # tells where it found its credentials, each time
    run: Run = import_module(STEPS[arguments.step].module).run
    return run_step(arguments.step, run, arguments.config, arguments.input, arguments.output)
