"""Command line of the local AWS API; see README.md."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.aws", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--state-dir", type=Path, required=True, help="folder for logs and unpacked models")
    parser.add_argument("--images", type=Path, required=True, help="images.json: image reference -> local command")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--account", default="123456789012", help="12-digit account id")
    parser.add_argument("--s3-endpoint", help="URL of the S3 that holds model data; left out: this server's own")
    parser.add_argument("--access-log", choices=["file", "stdout", "off"], default="file", help="file: access.log")
    parser.add_argument(
        "--min-state-seconds",
        type=float,
        default=0.3,
        help="shortest time in Creating, Updating, RollingBack, Deleting",
    )
    parser.add_argument(
        "--startup-seconds", type=float, default=30.0, help="time to a healthy /ping where the variant sets none"
    )
    parser.add_argument(
        "--time-scale",
        type=_positive,
        default=1.0,
        help="how many seconds of a deployment's waits and of alarm periods pass in one second (60: a minute in one)",
    )
    parser.add_argument(
        "--capture-seconds", type=_positive, default=5.0, help="longest time that captured data waits to be written"
    )
    return parser.parse_args()


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number greater than 0")
    return number


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    args = _arguments()
    args.state_dir.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    # moto reads these when it is imported, so the import comes after.
    os.environ.update(MOTO_ACCOUNT_ID=args.account, MOTO_PORT=str(args.port), AWS_DEFAULT_REGION=args.region)
    # Not one variable of ours may point boto3 in this process at another account or profile.
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        os.environ.pop(name, None)

    from local.aws.application import Application

    application = Application(
        port=args.port,
        state_dir=args.state_dir.resolve(),
        images=args.images.resolve(),
        region=args.region,
        account=args.account,
        min_state_seconds=args.min_state_seconds,
        startup_seconds=args.startup_seconds,
        time_scale=args.time_scale,
        capture_seconds=args.capture_seconds,
        s3_endpoint=args.s3_endpoint,
        access_log=_access_log(args.access_log, args.state_dir),
    )
    application.start()
    while not stop.wait(3600):
        pass
    application.stop()


def _access_log(where: str, state_dir: Path) -> Callable[[str], None] | None:
    if where == "off":
        return None
    output = sys.stdout if where == "stdout" else (state_dir / "access.log").open("a", buffering=1)

    def write(line: str) -> None:
        with suppress(OSError, ValueError):  # a full disk or closed pipe is no reason to fail a request
            output.write(f"{line}\n")
            output.flush()

    return write


if __name__ == "__main__":
    main()
