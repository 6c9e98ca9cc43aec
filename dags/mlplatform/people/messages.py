"""Messages to people: what is said of each event."""

from __future__ import annotations

from mlplatform.config import names
from mlplatform.config.base import Strict
from mlplatform.config.environment import NotificationEvent


class Message(Strict):
    """What people are told."""

    event: NotificationEvent
    subject: str
    lines: list[str]

    @property
    def text(self) -> str:
        """The message's body."""
        return "\n".join(self.lines)


def approval_wanted(dataset: str, version: str, reasons: list[str], hours: float, links: list[str]) -> Message:
    """The gate leaves a candidate to a person."""
    return Message(
        event="approval-wanted",
        subject=f"{dataset}: version {version} waits for approval",
        lines=[
            f"Version {version} of {dataset} may be deployed if somebody approves it within {hours:g} h.",
            *(f"- {reason}" for reason in reasons),
            *links,
        ],
    )


def approved(dataset: str, version: str, by: str, reason: str, reasons: list[str], links: list[str]) -> Message:
    """A candidate was approved; its deployment is another DAG's."""
    return Message(
        event="approved",
        subject=f"{dataset}: version {version} was approved",
        lines=[
            f"Version {version} of {dataset} was approved by {by} ({reason}); "
            f"{names.dag_id('deploy', dataset)} puts it live.",
            *(f"- {reason}" for reason in reasons),
            *links,
        ],
    )


def deployed(
    dataset: str, version: str, endpoint: str, by: str, reason: str, before: str | None, links: list[str]
) -> Message:
    """A version is live."""
    return Message(
        event="deployed",
        subject=f"{dataset}: version {version} is live",
        lines=[
            f"Version {version} of {dataset} serves on the endpoint {endpoint}"
            + (f"; it was version {before} before." if before not in (None, version) else "."),
            f"Approved by {by}: {reason}" if by else reason,
            *links,
        ],
    )


def rolled_back(
    dataset: str, version: str, endpoint: str, by: str, reason: str, before: str | None, links: list[str]
) -> Message:
    """The version before is live again."""
    return Message(
        event="rolled-back",
        subject=f"{dataset}: back to version {version}",
        lines=[
            f"{by} took {dataset} back from version {before} to version {version} on the endpoint {endpoint}.",
            reason,
            *links,
        ],
    )


def rejected(dataset: str, version: str, reasons: list[str], links: list[str]) -> Message:
    """A candidate did not pass the gate, or a person said no."""
    return Message(
        event="rejected",
        subject=f"{dataset}: version {version} was rejected",
        lines=[
            f"Version {version} of {dataset} was not deployed; what was live stays live.",
            *(f"- {reason}" for reason in reasons),
            *links,
        ],
    )


def expired(dataset: str, version: str, reason: str, links: list[str]) -> Message:
    """Nobody answered in time."""
    return Message(
        event="expired",
        subject=f"{dataset}: nobody approved version {version}",
        lines=[
            f"Version {version} of {dataset} was not deployed: {reason}. What was live stays live.",
            "To ask again, clear the task approval.ask of the run.",
            *links,
        ],
    )


def superseded(dataset: str, version: str, reason: str, links: list[str]) -> Message:
    """A better candidate came before the answer."""
    return Message(
        event="superseded",
        subject=f"{dataset}: version {version} needs no answer any more",
        lines=[
            f"Version {version} of {dataset} was not deployed: {reason}. What was live stays live.",
            *links,
        ],
    )


def nothing_to_do(dataset: str, why: str) -> Message:
    """The run had nothing to train."""
    return Message(event="nothing-to-do", subject=f"{dataset}: nothing to do", lines=[why])


def failed(dataset: str, run_id: str, task: str | None, reason: str, log_url: str | None, dag_id: str) -> Message:
    """A run ended without a result."""
    where = f" in {task}" if task else ""
    what = "training" if dag_id == names.dag_id("train", dataset) else dag_id
    return Message(
        event="failed",
        subject=f"{dataset}: {what} failed{where}",
        lines=[
            f"The run {run_id} of {dag_id} failed{where}. What was live stays live.",
            reason,
            *([f"Log: {log_url}"] if log_url else []),
        ],
    )


def deployment_failed(
    dataset: str, version: str, purpose: str, dag_run: str, reason: str, log_url: str | None
) -> Message:
    """A version did not go live."""
    what = "deployment of" if purpose == "deploy" else "step back to"
    return Message(
        event="failed",
        subject=f"{dataset}: {what} version {version} failed",
        lines=[f"{dag_run} failed.", reason, *([f"Log: {log_url}"] if log_url else [])],
    )
