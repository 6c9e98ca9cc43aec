"""Step monitor: what the live model is asked and answers, against what it was trained and evaluated on."""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlplatform.documents.monitoring import LiveQuality, MonitorResult, WatchedVersion
from mlplatform.documents.run import RunConfig, Watch
from mlplatform.errors import NonRetryableError
from mlplatform.monitoring.verdict import judge
from mlplatform.steps import REPORT as REPORT
from mlplatform.steps import StepContext
from mlplatform.storage import join, write_bytes
from trainer import shutdown, tracking
from trainer.evaluation.bootstrap import intervals
from trainer.metrics import score_all
from trainer.monitoring import bodies, capture, labels, reference, telemetry
from trainer.monitoring.bodies import Malformed
from trainer.monitoring.capture import Exchange
from trainer.monitoring.tally import Tally

log = logging.getLogger(__name__)

EXAMPLES = 10
"""Malformed lines that the result quotes the reason of."""
MOST_VERSIONS = 20
"""Versions told apart in a window; each costs a model's download."""
FOLDER = "monitoring"
"""Artifact path of the reports in a version's run, and the beginning of its metrics' names."""


def run(context: StepContext) -> MonitorResult:
    """Measure a window, judge it, and tell it: a report, MLflow's run of each version, and CloudWatch.

    Args:
        context: its input is the endpoint's captured requests and answers.

    Raises:
        NonRetryableError: the configuration names no window.
    """
    config, watch = context.config, context.config.monitoring
    if watch is None:
        raise NonRetryableError(
            "monitoring: not set in the configuration; it says which requests to look at", kind="bad-config"
        )
    client = tracking.connect(config.tracking_uri)
    cloudwatch = telemetry.client(config.region)
    with shutdown.scratch_folder() as folder:
        window = _Window(config, watch, folder)
        window.read(context.input)
        joined = labels.join(
            window.answers.path,
            watch.labels_uri,
            watch.labels_start,
            config.model.target,
            {version: tally.reference.manifest for version, tally in window.tallies.items()},
            folder / "labels",
        )
        versions = [window.measured(version, joined) for version in sorted(window.seen, key=int)]
        result = MonitorResult(
            run_key=config.run_key,
            started_at=context.started_at,
            finished_at=datetime.now(UTC),
            endpoint_name=watch.endpoint_name,
            start=watch.start,
            labels_start=watch.labels_start,
            end=watch.end,
            requests=window.requests,
            rows=window.rows,
            malformed=window.malformed,
            malformed_examples=window.examples,
            unattributed=window.unattributed,
            versions=versions,
            labels=joined.counts,
            errors=telemetry.errors(cloudwatch, watch, capture.variants(context.input)),
            verdict=judge(versions, watch.limits),
            report_uri=join(context.output, REPORT),
        )
        log.info("%s: %s", result.verdict.outcome, "; ".join(result.verdict.reasons) or "nothing to say")
        _tell(client, config, watch, result, window.tallies, folder)
    telemetry.publish(cloudwatch, result, watch.environment, config.model.name)
    return result


class _Window:
    """What was captured, read once from beginning to end."""

    def __init__(self, config: RunConfig, watch: Watch, folder: Path) -> None:
        self._config, self._watch, self._folder = config, watch, folder
        self.answers = labels.Answers(folder / "answers.jsonl")
        self.tallies: dict[str, Tally] = {}
        self.notes: dict[str, str] = {}
        self.seen: dict[str, list[int]] = {}
        """Of each version the requests and rows in the window of drift."""
        self.requests = self.rows = self.malformed = self.unattributed = 0
        self.examples: list[str] = []

    def read(self, uri: str) -> None:
        """Count every exchange; what cannot be read is counted too, and never stops anything."""
        for exchange in capture.exchanges(uri, self._watch.labels_start, self._watch.end):
            if isinstance(exchange, Malformed):
                self._leave_out(str(exchange))
                continue
            try:
                self._add(exchange)
            except Malformed as error:
                self._leave_out(f"{exchange.source}: {error}")
        self.answers.close()

    def _leave_out(self, why: str) -> None:
        self.malformed += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(why[:300])

    def _add(self, exchange: Exchange) -> None:
        predictions, version = bodies.predictions(exchange.answer.content_type, exchange.answer.body)
        version = version or self._watch.unnamed_version
        if version is None:
            self.unattributed += 1
            return
        recent = exchange.at >= self._watch.start
        tally = self._tally(version)
        if tally is None:
            if recent and version in self.notes:
                self._count(version, len(predictions))
            return
        manifest = tally.reference.manifest
        columns = bodies.columns(
            exchange.request.content_type, exchange.request.body, [feature.name for feature in manifest.features]
        )
        width = len(manifest.classes or []) if manifest.task == "multiclass" else None
        if (predictions.shape[1] if predictions.ndim == 2 else None) != width:
            raise Malformed(f"the answer is not one of a {manifest.task} model")
        if len(predictions) != len(next(iter(columns.values()))):
            raise Malformed("the answer has not as many predictions as the request has rows")
        self.answers.add(exchange, version, predictions)
        self.seen.setdefault(version, [0, 0])
        if recent:
            self._count(version, len(predictions))
            tally.add(exchange.variant, columns, predictions)

    def _count(self, version: str, rows: int) -> None:
        seen = self.seen.setdefault(version, [0, 0])
        seen[0] += 1
        seen[1] += rows
        self.requests += 1
        self.rows += rows

    def _tally(self, version: str) -> Tally | None:
        if version not in self.tallies and version not in self.notes:
            if len(self.tallies) + len(self.notes) >= MOST_VERSIONS:
                self.unattributed += 1
                return None
            try:
                known = reference.load(self._config, version, self._folder / f"version-{version}")
            except NonRetryableError as refused:
                log.warning("version %s: %s", version, refused)
                self.notes[version] = str(refused)
            else:
                self.tallies[version] = Tally(known)
        return self.tallies.get(version)

    def measured(self, version: str, joined: labels.Labelled) -> WatchedVersion:
        """Return what was measured of a version."""
        requests, rows = self.seen[version]
        tally = self.tallies.get(version)
        if tally is None:
            return WatchedVersion(model_version=version, requests=requests, rows=rows, note=self.notes[version])
        return WatchedVersion(
            model_version=version,
            requests=requests,
            rows=rows,
            reference_rows=tally.reference.train_rows,
            test_rows=tally.reference.test_rows,
            features=tally.features(),
            prediction=tally.prediction(),
            quality=self._quality(version, tally, joined),
        )

    def _quality(self, version: str, tally: Tally, joined: labels.Labelled) -> LiveQuality | None:
        if version not in joined.rows:
            return None
        model = self._config.model
        target, predicted = joined.rows[version]
        task, score = tally.reference.manifest.task, tally.reference.score
        return LiveQuality(
            metric=model.metric,
            rows=len(target),
            value=score_all(task, target, predicted)[model.metric],
            interval=intervals(task, model.metric, target, predicted, None, seed=self._config.seed).candidate,
            evaluated=score.metrics.get(model.metric),
            evaluated_interval=score.interval,
        )


def _tell(
    client: Any, config: RunConfig, watch: Watch, result: MonitorResult, tallies: dict[str, Tally], folder: Path
) -> None:
    """Write the report, and the measurements into the run of each version: a series over its windows."""
    from mlflow.entities import Metric

    from trainer.reports.monitoring import page  # Jinja2, after all that may refuse

    content = page(config.model, result, watch.limits, tallies)
    write_bytes(result.report_uri, content.encode(), content_type="text/html; charset=utf-8")
    local = folder / f"{watch.end:%Y%m%dT%H%M%SZ}.html"
    local.write_text(content, "utf-8")
    at = int(watch.end.timestamp())
    for version, values in telemetry.measurements(result).items():
        if version in tallies:
            # At the window's end: the same a second time changes nothing.
            metrics = [Metric(f"{FOLDER}/{name}", value, at * 1000, at) for name, value in values.items()]
            run_id = tallies[version].reference.run_id
            client.log_batch(run_id, metrics=[metric for metric in metrics if math.isfinite(metric.value)])
            client.log_artifact(run_id, str(local), FOLDER)
