"""``python -m local``."""

import local.pipeline.command  # noqa: F401  # adds the command `demo`
from local.cli import app

if __name__ == "__main__":
    app(prog_name="python -m local")
