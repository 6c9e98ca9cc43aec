"""Events that one DAG raises and another one waits for."""

from __future__ import annotations

from airflow.sdk import Asset


def approved_models(dataset: str) -> Asset:
    """A version of a dataset's model was approved; the event's extra is a
    `mlplatform.documents.decisions.ApprovedModel`."""
    return Asset(name=f"approved-models-{dataset}", uri=f"mlplatform://approved-models/{dataset}")


def retraining_wanted(dataset: str) -> Asset:
    """A dataset's live model drifted or got worse; the event's extra is ``{dataset, family, reasons}``."""
    return Asset(name=f"retraining-wanted-{dataset}", uri=f"mlplatform://retraining-wanted/{dataset}")
