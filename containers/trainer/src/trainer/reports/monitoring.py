"""The monitoring report, from the step's result and what was counted for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mlplatform.config.dataset import ModelConfig
from mlplatform.config.environment import Monitoring
from mlplatform.documents.monitoring import Drifted, MonitorResult, WatchedVersion
from trainer import reports
from trainer.monitoring.tally import Tally

if TYPE_CHECKING:
    from trainer.reports.plots import Plot

DRAWN_VERSIONS = 3
"""Those with the most rows; the tables have all."""
DRAWN_FEATURES = 3
"""Of a version, the features that moved most, each with its distribution..."""
DRAWN_PSI = 0.1
"""...and from this PSI on: below it is commonly called no change."""
LISTED_FEATURES = 30
"""Of a version, in the plot of all features."""
NAMED_CLASSES = 3
PREDICTION = "the prediction"
"""What it is called between the features."""


@dataclass(frozen=True)
class VersionSection:
    """A version on the page.

    Attributes:
        variants: the endpoint's variants that answered with it, and their rows.
        answered: what it answered, in a few words.
        moved: the prediction and the features, the most moved first.
    """

    version: WatchedVersion
    verdict: str
    variants: str
    answered: str
    moved: list[tuple[str, Drifted]]
    plots: list[Plot]


def page(model: ModelConfig, result: MonitorResult, limits: Monitoring, tallies: Mapping[str, Tally]) -> str:
    """Return the page.

    Args:
        tallies: by version, what `result` was measured with.
    """
    ranked = sorted(result.versions, key=lambda version: -version.rows)
    drawn = {version.model_version for version in ranked[:DRAWN_VERSIONS]}
    sections = [
        _section(version, result, limits, tallies.get(version.model_version), version.model_version in drawn)
        for version in result.versions
    ]
    return reports.render(
        "monitoring.html.j2", model=model, result=result, limits=limits, sections=sections, actions=actions(result)
    )


def actions(result: MonitorResult) -> list[str]:
    """Say what to do next, the most urgent first."""
    outcome, found = result.verdict.outcome, []
    if outcome == "degraded":
        found.append(
            "If the version before was better, put it back: trigger the dataset's rollback DAG, see the runbook "
            "roll-back. A new version does not come live by that."
        )
    if outcome in ("degraded", "drifted"):
        found += [
            "Look at what moved most, below. Missing values and unknown categories are mostly a fault of who sends the "
            "requests, such as a field renamed or a unit changed: have it mended there.",
            "If the world has changed, land new data and train again; with monitoring.action: retrain that starts by "
            "itself. The data the model was trained on teaches it nothing new.",
        ]
    if outcome == "drifted" and not any(version.quality for version in result.versions):
        found.append("Land labels: drift says that something changed, only labels say whether the model got worse.")
    if outcome == "too-few" and not result.requests:
        found.append(
            "See that the endpoint is asked at all, and that it captures: serving.capture.percentage is more than 0."
        )
    elif outcome == "too-few":
        found.append(
            "Wait for more requests, look at more hours (monitoring.window_hours), or capture a larger share "
            "(serving.capture.percentage). Fewer rows than monitoring.minimum_rows tell little."
        )
    if result.malformed:
        found.append(
            f"{result.malformed} captured records could not be read; at the end of this page is why. They are left out."
        )
    if result.labels.refused_files:
        found.append("Land the label files that were refused again, as docs/monitoring.md says; below is why.")
    return found or ["Nothing."]


def _section(
    version: WatchedVersion, result: MonitorResult, limits: Monitoring, tally: Tally | None, drawn: bool
) -> VersionSection:
    measured = [*version.features.items(), *([(PREDICTION, version.prediction)] if version.prediction else [])]
    moved = sorted(measured, key=lambda item: -item[1].psi)
    return VersionSection(
        version=version,
        verdict=result.verdict.versions[version.model_version],
        variants=_variants(tally),
        answered=_answered(tally),
        moved=moved,
        plots=_plots(tally, moved, limits) if drawn and tally is not None and moved else [],
    )


def _variants(tally: Tally | None) -> str:
    if tally is None or not tally.variants:
        return reports.NOTHING
    named = sorted(tally.variants.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reports.label(name)} ({reports.count(rows)})" for name, rows in named)


def _answered(tally: Tally | None) -> str:
    if tally is None or not tally.rows:
        return reports.NOTHING
    if tally.reference.manifest.task != "multiclass":
        return f"{reports.decimal(tally.mean)} on average"
    shares = tally.shares(None)
    ranked = sorted(zip(shares.now, shares.names, strict=True), key=lambda item: (-item[0], item[1]))
    return ", ".join(f"{reports.label(name, 24)} {reports.percent(share)}" for share, name in ranked[:NAMED_CLASSES])


def _plots(tally: Tally, moved: list[tuple[str, Drifted]], limits: Monitoring) -> list[Plot]:
    from trainer.reports import plots  # brings Matplotlib

    listed = moved[:LISTED_FEATURES]
    psi = np.array([one.psi for _, one in listed])
    empty = np.zeros(0)
    overview = plots.dots(
        "How far everything has moved",
        f"PSI of each feature and of the prediction, the most first. The dotted line is the limit of a feature, "
        f"{limits.maximum_feature_psi:g}; that of the prediction is {limits.maximum_prediction_psi:g}.",
        [name for name, _ in listed],
        [plots.Series("PSI", psi, empty)],
        "PSI",
        reference=limits.maximum_feature_psi,
        whole=True,
    )
    features = [(name, one) for name, one in moved if name != PREDICTION and one.psi >= DRAWN_PSI]
    return [
        overview,
        *(_distribution(tally, name, one) for name, one in features[:DRAWN_FEATURES]),
        *(_distribution(tally, None, one) for name, one in moved if name == PREDICTION),
    ]


def _distribution(tally: Tally, feature: str | None, moved: Drifted) -> Plot:
    from trainer.reports import plots

    shares, empty = tally.shares(feature), np.zeros(0)
    before = "in training" if feature is not None else "on the test split"
    return plots.dots(
        "The prediction" if feature is None else reports.label(feature),
        f"Share of the rows, now and {before}. Moved most has {reports.label(moved.most)}: "
        f"{reports.percent(moved.before)} before, {reports.percent(moved.now)} now.",
        shares.names,
        [
            plots.Series("now", 100 * np.array(shares.now), empty),
            plots.Series(before, 100 * np.array(shares.before), empty, "reference"),
        ],
        "Rows, %",
    )
