"""``python -m serving serve``: what SageMaker starts in the container."""

from __future__ import annotations

import signal
import sys
import time

from serving import logs


def main(arguments: list[str]) -> int:
    """Serve until told to stop. Returns the exit code: 0 after a drain, 1 when it could not start."""
    if arguments not in ([], ["serve"]):
        print(f"usage: python -m serving [serve] (got {' '.join(arguments)!r})", file=sys.stderr)
        return 2
    logs.configure()
    started = time.perf_counter()
    from modelformat import ModelFormatError
    from serving.model import load
    from serving.settings import Settings, SettingsError

    try:
        settings = Settings.from_environment()
        model = load(settings)
    except (SettingsError, ModelFormatError) as error:
        logs.write("startup-failed", message=str(error))
        return 1

    import uvicorn

    from serving.app import create_app

    seconds = round(time.perf_counter() - started, 3)
    if model is None:
        logs.write("no-model", directory=str(settings.model_directory), seconds=seconds)
    else:
        manifest = model.predictor.manifest
        logs.write(
            "model-loaded",
            family=manifest.family,
            engine=manifest.engine,
            task=manifest.task,
            features=len(manifest.features),
            seconds=seconds,
        )
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(model, settings),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=settings.drain_seconds,
        )
    )
    # After draining, uvicorn raises the signal it got again. With these handlers that ends nothing, and the
    # process exits 0: having drained is success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run()
    if not server.started:
        return 1
    logs.write("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
