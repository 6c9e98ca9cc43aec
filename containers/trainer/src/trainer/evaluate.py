"""Step evaluate: candidate and champion, scored by one process on the same held-out rows."""

from __future__ import annotations

import hashlib
import logging
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mlplatform import storage
from mlplatform.config import ModelConfig, Scalar, digest
from mlplatform.results import EvaluateResult, Example, Examples, Score
from mlplatform.steps import Refused, StepContext, StepDefinition
from modelformat import ModelFormatError, Predictor
from trainer import data, shutdown, sql, tracking
from trainer.data import Dataset, Kind
from trainer.metrics import score_all
from trainer.resources import threads
from trainer.tracking import RegisteredVersion

log = logging.getLogger(__name__)

EXAMPLES = 20


def run(context: StepContext) -> EvaluateResult:
    """Score the candidate, and the champion if there is one, on the test split.

    A champion that is the candidate itself (an evaluation repeated after promotion) is scored once and
    reported as both. A champion that cannot read the data any more is refused, not passed over: a
    replacement without a comparison is for people to decide.

    Args:
        context: its input is the output of step prepare.

    Raises:
        Refused: no candidate is configured or found, its files are not those registered, or the champion
            does not fit the data.
    """
    config = context.config
    candidate = config.candidate
    if candidate is None:
        raise Refused("candidate: not set in the configuration; register a model version first", kind="bad-config")
    prepared = data.read_prepared(context.input)
    client = tracking.connect(config.tracking_uri)
    name = config.model.registered_model
    contender = tracking.get_version(client, name, candidate.version)
    champion = tracking.get_champion(client, name)
    with shutdown.scratch_folder() as folder:
        test = data.fetch(prepared.test, folder)
        predictor = _load(config.tracking_uri, contender, folder / "candidate")
        if predictor.digest != candidate.model_digest:
            raise Refused(
                f"{name} version {contender.version}: its files have digest {predictor.digest}, registered was "
                f"{candidate.model_digest}; it was changed after training, train again",
                kind="bad-config",
            )
        dataset = data.load(test, _kinds(predictor), config.model.target)
        predictions = predictor.predict(dataset.columns)
        own = Score(
            model_version=contender.version,
            run_id=contender.run_id,
            metrics=score_all(dataset.target, predictions),
        )
        theirs = None
        if champion is not None and champion.version == contender.version:
            theirs = own
        elif champion is not None:
            theirs = _score_champion(config.tracking_uri, champion, config.model, test, folder / "champion")
        log.info("candidate %s, champion %s", own.model_dump(), theirs.model_dump() if theirs else "none")
        examples_uri = storage.join(context.output, "examples.json")
        storage.write_document(
            examples_uri, pick_examples(test, config.model, dataset, predictions, config.seed, folder)
        )
        content = hashlib.sha256(test.read_bytes()).hexdigest()
    return EvaluateResult(
        run_key=config.run_key,
        started_at=context.started_at,
        finished_at=datetime.now(UTC),
        candidate=own,
        champion=theirs,
        rows=dataset.rows,
        test_uri=prepared.test.uri,
        evaluation_digest=digest(
            name, own.model_dump(), candidate.model_digest, theirs.model_dump() if theirs else None, content
        ),
        examples_uri=examples_uri,
    )


def _load(tracking_uri: str, version: RegisteredVersion, folder: Path) -> Predictor:
    try:
        return Predictor.load(tracking.download_model(tracking_uri, version, folder), threads=threads())
    except ModelFormatError as error:
        raise Refused(f"{version.name} version {version.version}: {error}", kind="bad-config") from None


def _kinds(predictor: Predictor) -> dict[str, Kind]:
    return {feature.name: feature.kind for feature in predictor.manifest.features}


def _score_champion(
    tracking_uri: str, champion: RegisteredVersion, model: ModelConfig, test: Path, folder: Path
) -> Score:
    """Score the champion on the same file, with the columns it was trained on."""
    predictor = _load(tracking_uri, champion, folder)
    if predictor.manifest.target != model.target:
        raise Refused(
            f"champion {champion.name} version {champion.version} predicts {predictor.manifest.target!r}, not "
            f"{model.target!r}; register the new task under another name",
            kind="bad-config",
        )
    try:
        dataset = data.load(test, _kinds(predictor), model.target)
    except Refused as error:
        raise Refused(
            f"champion {champion.name} version {champion.version} does not fit the data: {error}. Keep the column in "
            "the query of the configuration (it need not be a feature), or remove alias champion to start afresh",
            kind="bad-config",
        ) from None
    scored = score_all(dataset.target, predictor.predict(dataset.columns))
    return Score(model_version=champion.version, run_id=champion.run_id, metrics=scored)


def pick_examples(
    test: Path, model: ModelConfig, dataset: Dataset, predictions: np.ndarray[Any, Any], seed: int, scratch: Path
) -> Examples:
    """Return a few rows, drawn by seed, with their predictions and the columns that people know them by."""
    chosen = np.sort(np.random.default_rng(seed).choice(dataset.rows, min(EXAMPLES, dataset.rows), replace=False))
    references: list[tuple[Any, ...]] = [() for _ in chosen]
    if model.references:
        source = f"read_parquet({sql.literal(str(test))}, file_row_number = true)"
        with sql.connect(scratch) as connection:
            types = {row[0]: row[1] for row in connection.execute(f"describe select * from {source}").fetchall()}
            # Text for what JSON has no type for, such as times.
            plain = sql.INTEGERS | sql.FLOATS | {"BOOLEAN"}
            select = [sql.identifier(name) + ("" if types[name] in plain else "::varchar") for name in model.references]
            rows = ", ".join(str(index) for index in chosen)
            references = connection.execute(
                f"select {', '.join(select)} from {source} where file_row_number in ({rows}) order by file_row_number"
            ).fetchall()
    return Examples(
        examples=[
            Example(
                features={name: _plain(values[index]) for name, values in dataset.columns.items()},
                prediction=float(predictions[index]),
                target=float(dataset.target[index]),
                references={name: _plain(v) for name, v in zip(model.references, reference, strict=True)},
            )
            for index, reference in zip(chosen.tolist(), references, strict=True)
        ]
    )


def _plain(value: Any) -> Scalar | None:
    """Return a value as JSON has it: Python's own types, None for what is missing."""
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and math.isnan(plain):
        return None
    result: Scalar | None = plain
    return result


STEP = StepDefinition(run=run, result=EvaluateResult)
