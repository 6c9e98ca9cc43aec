"""``python -m serving serve``: what SageMaker starts in the container."""

from __future__ import annotations

import os
import sys

from serving import logs


def main(arguments: list[str]) -> int:
    """Serve until told to stop. Returns the exit code: 0 after a drain, 1 when it could not start."""
    if arguments not in ([], ["serve"]):
        print(f"usage: python -m serving [serve] (got {' '.join(arguments)!r})", file=sys.stderr)
        return 2
    logs.configure()
    from serving.settings import Settings, SettingsError

    try:
        settings = Settings.from_environment()
    except SettingsError as error:
        logs.write("startup-failed", message=str(error))
        return 1
    # Read by the libraries when they are loaded: pools of as many threads as the machine has cores would forbid
    # workers to be forked, and would wait for each other on cores that others use.
    os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    # ONNX Runtime would start a thread that reports its use; a server reports to nobody, and has to fork.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    from modelformat import ModelFormatError
    from serving import supervisor

    try:
        return supervisor.serve(settings)
    except ModelFormatError as error:
        logs.write("startup-failed", message=str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
