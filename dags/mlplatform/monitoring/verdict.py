"""What the measurements of live models mean. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

from mlplatform.config.base import LOWER_IS_BETTER
from mlplatform.config.environment import Monitoring
from mlplatform.documents.monitoring import Drifted, LiveQuality, MonitoringVerdict, WatchedVersion

Outcome = Literal["ok", "drifted", "degraded", "too-few"]
_WORST_FIRST: tuple[Outcome, ...] = ("degraded", "drifted", "ok", "too-few")


def chance_psi(bins: int, reference_rows: int, rows: int, probability: float) -> float:
    """Return the PSI that chance alone exceeds with a probability, where nothing has moved.

    There the PSI of two samples of n and m rows is about (1/n + 1/m) times a chi-squared number with one degree of
    freedom less than there are bins (B. Yurdakul, "Statistical Properties of Population Stability Index", 2018). Its
    quantile is Wilson and Hilferty's (1931), within a few percent from one degree of freedom on.

    Args:
        bins: compared; with fewer than two nothing can move.
        reference_rows, rows: of both sides.
        probability: between 0 and 1.
    """
    freedom = bins - 1
    if freedom < 1 or not reference_rows or not rows:
        return 0.0
    part = 2 / (9 * freedom)
    quantile = freedom * (1 - part + NormalDist().inv_cdf(1 - probability) * math.sqrt(part)) ** 3
    return (1 / reference_rows + 1 / rows) * quantile


def least_loss(quality: LiveQuality) -> float | None:
    """Return how much of the metric is lost at least, as far as chance can be told from loss; negative where better.

    Both the live value and the evaluation's come from samples. The bound of their difference is made of the bounds of
    both (Zou and Donner, "Construction of confidence limits about effect measures", 2008).

    Returns:
        In the metric's unit; None where a value or its interval is not known.
    """
    value, interval, evaluated = quality.value, quality.interval, quality.evaluated
    if value is None or interval is None or evaluated is None:
        return None
    before = quality.evaluated_interval
    if quality.metric in LOWER_IS_BETTER:
        ours, theirs = value - interval.low, before.high - evaluated if before else 0.0
        return value - evaluated - math.hypot(ours, theirs)
    ours, theirs = interval.high - value, evaluated - before.low if before else 0.0
    return evaluated - value - math.hypot(ours, theirs)


def judge(versions: Sequence[WatchedVersion], limits: Monitoring) -> MonitoringVerdict:
    """Say what measurements mean.

    A feature or the prediction has drifted if its PSI is above its limit and above what chance would exceed, for any
    of a version's columns together, with a probability of 1 - ``level`` (Bonferroni). Quality is degraded if the loss
    is above the limit even at the near end of its interval. Versions with too few rows are not judged.
    """
    if not versions:
        return MonitoringVerdict(
            outcome="too-few", reasons=["no request of a known version was captured in the window"]
        )
    reasons: list[str] = []
    outcomes: dict[str, Outcome] = {}
    for version in versions:
        outcome, why = _judge_version(version, limits)
        outcomes[version.model_version] = outcome
        reasons += [f"version {version.model_version}: {reason}" for reason in why]
    worst = next(outcome for outcome in _WORST_FIRST if outcome in outcomes.values())
    return MonitoringVerdict(outcome=worst, reasons=reasons, versions=outcomes)


def _judge_version(version: WatchedVersion, limits: Monitoring) -> tuple[Outcome, list[str]]:
    if version.note is not None:
        return "too-few", [f"not compared: {version.note}"]
    if not version.rows:
        return "too-few", ["answered nothing in the window, so it is not live any more"]
    drift, quality = _drift(version, limits), _quality(version.quality, limits)
    why: list[str] = []
    if drift is None:
        why.append(f"{version.rows} rows answered, and drift is judged from {limits.minimum_rows} on (minimum_rows)")
    if quality is None:
        labels = version.quality.rows if version.quality else 0
        why.append(f"{labels} labels landed: quality is not judged (minimum_labels: {limits.minimum_labels})")
    found = [*(quality or []), *(drift or [])]
    if quality:
        return "degraded", [*found, *why]
    if drift:
        return "drifted", [*found, *why]
    return ("too-few" if drift is None and quality is None else "ok"), why


def _drift(version: WatchedVersion, limits: Monitoring) -> list[str] | None:
    """Return what has drifted; None where there are too few rows to tell."""
    if version.rows < limits.minimum_rows:
        return None
    probability = (1 - limits.level) / (len(version.features) + 1)
    found = [
        _moved(f"feature {name}", one, limits.maximum_feature_psi)
        for name, one in version.features.items()
        if one.psi > limits.maximum_feature_psi
        and one.psi > chance_psi(one.bins, version.reference_rows, version.rows, probability)
    ]
    one = version.prediction
    if (
        one is not None
        and one.psi > limits.maximum_prediction_psi
        and one.psi > chance_psi(one.bins, version.test_rows, version.rows, probability)
    ):
        found.append(_moved("the prediction", one, limits.maximum_prediction_psi))
    return found


def _moved(what: str, one: Drifted, limit: float) -> str:
    return (
        f"{what} has drifted: PSI {one.psi:.2f}, more than {limit:g}; most of all {one.most}, {one.before:.1%} before "
        f"and {one.now:.1%} now"
    )


def _quality(quality: LiveQuality | None, limits: Monitoring) -> list[str] | None:
    """Return whether quality is lost; None where that cannot be told."""
    if quality is None or quality.rows < limits.minimum_labels:
        return None
    loss = least_loss(quality)
    if loss is None or quality.evaluated is None or quality.value is None or quality.interval is None:
        return None
    allowed = limits.maximum_quality_loss * abs(quality.evaluated)
    if loss <= allowed:
        return []
    return [
        f"{quality.metric} is {quality.value:.4g} on {quality.rows} labelled rows ({quality.interval.low:.4g} to "
        f"{quality.interval.high:.4g}), and was {quality.evaluated:.4g} when it was evaluated: at least {loss:.3g} "
        f"worse, more than {allowed:.3g}"
    ]
