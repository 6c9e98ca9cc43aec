"""What training left beside a model in its MLflow run, and the report that evaluation adds."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

FOLDER = "evaluation"
"""Artifact path of the report."""


def read_json(client: Any, run_id: str, name: str, folder: Path) -> Any:
    """Read a JSON artifact at the top of a run, or return None where there is none that can be read.

    The report says what it lacks; an evaluation does not fail for it.
    """
    from mlflow.exceptions import MlflowException

    try:
        if name not in {item.path for item in client.list_artifacts(run_id)}:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        return json.loads(Path(client.download_artifacts(run_id, name, str(folder))).read_text(encoding="utf-8"))
    except MlflowException as error:
        # A champion's run may have been deleted long after it was registered.
        log.warning("run %s: artifact %s cannot be read: %s", run_id, name, error)
    except ValueError as error:
        log.warning("run %s: artifact %s is not JSON: %s", run_id, name, error)
    return None


def log_report(client: Any, run_id: str, page: Path) -> None:
    """Put the report into a run, in place of an earlier one."""
    client.log_artifact(run_id, str(page), FOLDER)
