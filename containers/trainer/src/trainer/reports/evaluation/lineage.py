"""The section on lineage: where the models and the numbers come from."""

from __future__ import annotations

from mlplatform.documents.results import PrepareResult, Split
from trainer.reports import label, moment
from trainer.reports.evaluation.inputs import Evaluation


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Return names and values of what has to be known to do it again."""
    config, result = evaluation.config, evaluation.result
    rows = [
        ("Run key", config.run_key),
        ("Dataset", config.model.name),
        ("Registered model", config.model.registered_model),
        ("Candidate", f"version {result.candidate.model_version}, MLflow run {result.candidate.run_id}"),
    ]
    if config.candidate is not None:
        rows.append(("Candidate's digest", config.candidate.model_digest))
    if result.champion is not None:
        rows.append(("Champion", f"version {result.champion.model_version}, MLflow run {result.champion.run_id}"))
    rows += [(label(name.replace("_", " ")).capitalize(), value) for name, value in sorted(config.lineage.items())]
    rows += [
        ("Digest of the test rows", evaluation.data_digest),
        ("Evaluation's digest", result.evaluation_digest),
        ("Seed", str(config.seed)),
        ("Prepared by", evaluation.prepared.engine),
        ("Evaluated", moment(result.started_at)),
    ]
    return rows


def splits(prepared: PrepareResult) -> list[tuple[str, Split]]:
    """Return the splits by name."""
    return [("Train", prepared.train), ("Validation", prepared.validation), ("Test", prepared.test)]
