"""Makes no DAG, and fails to import if a dataset's file is refused: so that Airflow names it, and no other is missing.

An import error takes all DAGs of its file out. Those of the other datasets are in other files.
"""

from __future__ import annotations

from airflow.sdk import get_parsing_context

from mlplatform.errors import ConfigError
from mlplatform.orchestration.datasets import refusals

if get_parsing_context().dag_id is None and (found := refusals()):
    raise ConfigError("\n".join(found))
