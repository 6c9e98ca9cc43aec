"""Events that one DAG raises and another one waits for."""

from __future__ import annotations

from airflow.sdk import Asset

APPROVED_MODELS = Asset(name="approved-models", uri="mlplatform://approved-models")
"""A model version was approved; the event's extra is a `mlplatform.documents.decisions.ApprovedModel`."""
RETRAINING_WANTED = Asset(name="retraining-wanted", uri="mlplatform://retraining-wanted")
"""A live model drifted or got worse; the event's extra is ``{dataset, family, reasons}``."""
