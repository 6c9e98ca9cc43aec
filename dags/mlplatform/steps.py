"""The contract every container step keeps. No Airflow import.

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
from typing import Literal

from mlplatform import storage
from mlplatform.config import RunConfig
from mlplatform.results import StepFailure, StepResult

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_REFUSED = 64
"""EX_USAGE of sysexits.h: the caller is wrong, not the moment."""

RESULT = "result.json"
ERROR = "error.json"

log = logging.getLogger(__name__)


class Refused(Exception):
    """The step cannot succeed with what it was given; trying again would not help."""

    def __init__(
        self,
        message: str,
        *,
        kind: Literal["bad-input", "bad-config", "rolled-back"] = "bad-input",
        subjects: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.kind: Literal["bad-input", "bad-config", "rolled-back"] = kind
        self.subjects = list(subjects)


class Unavailable(Exception):
    """Something the step needs does not answer or is full; trying again may help. The message says all there is."""


@dataclass(frozen=True)
class StepContext:
    """What a step is called with."""

    config: RunConfig
    input: str
    output: str
    started_at: datetime


@dataclass(frozen=True)
class StepDefinition:
    """A step's function and the type of its result."""

    run: Callable[[StepContext], StepResult]
    result: type[StepResult]


def run_step(name: str, step: StepDefinition, config_uri: str, input_uri: str, output_uri: str) -> int:
    """Run one step under the contract and return the exit code."""
    result_uri = storage.join(output_uri, RESULT)
    try:
        if storage.try_read_document(result_uri, step.result) is not None:
            log.info("%s: nothing to do, %s is already there", name, result_uri)
            return EXIT_DONE
    except storage.StorageError as error:
        log.warning("%s; doing the step again", error)
    started = time.monotonic()
    try:
        try:
            config = storage.read_document(config_uri, RunConfig)
        except storage.StorageError as error:
            raise Refused(str(error), kind="bad-config") from None
        result = step.run(StepContext(config, input_uri.rstrip("/"), output_uri.rstrip("/"), datetime.now(UTC)))
        storage.write_document(result_uri, result)
    except Refused as refused:
        failure = StepFailure(step=name, kind=refused.kind, message=str(refused), subjects=refused.subjects)
        storage.write_document(storage.join(output_uri, ERROR), failure)
        sys.stdout.flush()
        print(f"{name}: {refused}", file=sys.stderr, flush=True)
        return EXIT_REFUSED
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

    if isinstance(error, Unavailable):
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


def main(package: str, steps: Mapping[str, StepDefinition | Callable[[], StepDefinition]], argv: Sequence[str]) -> int:
    """Parse the command line and run the step it names.

    A step may be given as a function that returns its definition, so that only the step that runs
    imports its libraries.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {package}", description="Run one step of the training pipeline.")
    parser.add_argument("step", choices=sorted(steps))
    parser.add_argument("--config", required=True, metavar="URI", help="s3:// address of the run's configuration")
    parser.add_argument("--input", required=True, metavar="URI", help="s3:// prefix the step reads from")
    parser.add_argument("--output", required=True, metavar="URI", help="s3:// prefix the step writes to")
    try:
        arguments = parser.parse_args(argv)
        for uri in (arguments.config, arguments.input, arguments.output):
            storage.split_uri(uri)
    except SystemExit as stop:  # argparse exits with 2, which would be tried again
        return EXIT_DONE if stop.code in (0, None) else EXIT_REFUSED
    except ValueError as error:
        print(f"{package}: {error}", file=sys.stderr)
        return EXIT_REFUSED
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)  # tells where it found its credentials, each time
    definition = steps[arguments.step]
    step = definition if isinstance(definition, StepDefinition) else definition()
    return run_step(arguments.step, step, arguments.config, arguments.input, arguments.output)
