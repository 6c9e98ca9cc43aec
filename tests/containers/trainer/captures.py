"""A live model as the step monitor sees it: captures as SageMaker writes them, labels that land, and the step's run."""

from __future__ import annotations

import base64
import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from helpers import Columns, Run, parquet

from mlplatform.config.environment import Monitoring
from mlplatform.documents.monitoring import MonitorResult
from mlplatform.documents.results import StepFailure
from mlplatform.documents.run import Candidate, Trial, Watch
from mlplatform.promotion.registry import get_version
from mlplatform.steps import main
from mlplatform.storage import read_bytes, read_document, try_read_document, write_bytes, write_document
from modelformat import Predictor
from trainer import tracking

END = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
NUMBERS = itertools.count()
LIMITS = Monitoring(minimum_rows=200, minimum_labels=100)


@dataclass
class Live:
    """A trained and evaluated run whose model is live, and a window of its own."""

    run: Run
    predictors: dict[str, Predictor]
    name: str = field(default_factory=lambda: f"endpoint-{next(NUMBERS)}")
    unnamed: str | None = None
    limits: Monitoring = LIMITS

    @property
    def capture(self) -> str:
        return f"s3://data/capture/{self.name}"

    def capture_lines(
        self, lines: list[bytes], at: datetime = END - timedelta(hours=1), variant: str = "primary"
    ) -> None:
        uri = f"{self.capture}/{variant}/{at:%Y/%m/%d/%H}/{at:%M-%S}-000-{next(NUMBERS)}.jsonl"
        write_bytes(uri, b"\n".join(lines) + b"\n")

    def ask(self, rows: Columns, version: str = "1", **options: Any) -> None:
        """Capture a request for each row, answered by a version."""
        names = list(rows)
        count = len(rows[names[0]])
        requests = [{name: [rows[name][i]] for name in names} for i in range(count)]
        answers = self.predictors[version].predict(rows).tolist()
        prefix = options.pop("ids", f"{self.name}-{version}")
        at = options.pop("at", END - timedelta(hours=1))
        variant = options.pop("variant", "primary")
        self.capture_lines(
            [
                line(request, [answer], version, at, f"{prefix}-{i}", **options)
                for i, (request, answer) in enumerate(zip(requests, answers, strict=True))
            ],
            at,
            variant,
        )

    def label(self, columns: Columns, file: str = "a") -> None:
        write_bytes(f"s3://landing/labels/{self.name}/{file}.parquet", parquet(columns))

    @property
    def output(self) -> str:
        return f"s3://data/monitoring/{self.name}"

    def step(self) -> int:
        """Run the step and return its exit code."""
        config = self.run.config().model_copy(
            update={
                "run_key": self.name,
                "monitoring": Watch(
                    endpoint_name=self.name,
                    capture_uri=self.capture,
                    labels_uri=f"s3://landing/labels/{self.name}",
                    start=END - timedelta(hours=24),
                    labels_start=END - timedelta(hours=72),
                    end=END,
                    unnamed_version=self.unnamed,
                    environment="tests",
                    limits=self.limits,
                ),
            }
        )
        write_document(f"{self.output}/config.json", config)
        arguments = ["--config", f"{self.output}/config.json", "--input", self.capture, "--output", self.output]
        return main("trainer", ["monitor", *arguments])

    def monitor(self) -> MonitorResult:
        """Run the step, which must succeed, and return its result."""
        assert self.step() == 0, try_read_document(f"{self.output}/error.json", StepFailure)
        return read_document(f"{self.output}/result.json", MonitorResult)

    def report(self) -> str:
        return read_bytes(f"{self.output}/report.html").decode()


def line(
    request: Columns, answers: Any, version: str | None, at: datetime, known: str | None, kind: str = "json"
) -> bytes:
    """Return a captured line.

    Args:
        kind: json, base64 (both bodies encoded), parquet (the request), or csv (whose answer names no version).
    """
    if kind == "csv":
        names = list(request)
        rows = zip(*request.values(), strict=True)
        text = "\n".join([",".join(names), *(",".join("" if v is None else str(v) for v in row) for row in rows)])
        answered, media, encoding = "".join(f"{value!r}\n" for value in answers), "text/csv", "CSV"
    else:
        rows_of = [dict(zip(request, row, strict=True)) for row in zip(*request.values(), strict=True)]
        text, media, encoding = json.dumps({"instances": rows_of}), "application/json", "JSON"
        answered = json.dumps({"predictions": answers, "model": {"version": version, "digest": "d"}})

    def half(content: str | bytes, media: str) -> dict[str, str]:
        if kind == "base64" or isinstance(content, bytes):
            body = base64.b64encode(content if isinstance(content, bytes) else content.encode()).decode()
            return {"observedContentType": media, "data": body, "encoding": "BASE64"}
        return {"observedContentType": media, "data": content, "encoding": encoding}

    asked = half(text, media)
    if kind == "parquet":
        asked = half(parquet(request), "application/vnd.apache.parquet")

    event = {"eventId": "e", "inferenceTime": f"{at:%Y-%m-%dT%H:%M:%SZ}", **({"inferenceId": known} if known else {})}
    data = {"endpointInput": asked, "endpointOutput": half(answered, media)}
    return json.dumps({"captureData": data, "eventMetadata": event, "eventVersion": "0"}).encode()


def release(run: Run, version: str, folder: Path, **params: Any) -> Predictor:
    """Prepare, train, register and evaluate a version, tagged as the orchestrator does; the data has landed."""
    client, name = tracking.connect(run.tracking_uri), run.model["registered_model"]
    run.done("prepare")
    run.trials = [Trial(index=0, params=params)]
    (trial,) = run.done("train", "train/000").trials
    made = client.create_model_version(name, trial.model_uri, trial.run_id)
    assert made.version in (version, int(version))
    run.candidate = Candidate(version=version, run_id=trial.run_id, model_digest=trial.model_digest)
    run.done("evaluate")
    client.set_model_version_tag(name, version, "run_prefix", run.prefix)
    registered = get_version(run.tracking_uri, name, version)
    return Predictor.load(tracking.download_model(run.tracking_uri, registered, folder / version))
