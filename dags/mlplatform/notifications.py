"""Messages to people, through SNS. No Airflow import.

A message that cannot be sent is logged and forgotten: a dead notifier never fails a run.
"""

from __future__ import annotations

import logging
from typing import Literal

from mlplatform.config import Settings, Strict

log = logging.getLogger(__name__)

# SNS: "must be ASCII text that begins with a letter, number, or punctuation mark … less than 100 characters".
_SUBJECT_LIMIT = 99

Event = Literal["deployed", "rejected", "nothing-to-do", "failed"]


class Message(Strict):
    """What people are told."""

    event: Event
    subject: str
    lines: list[str]

    @property
    def text(self) -> str:
        """The message's body."""
        return "\n".join(self.lines)


def deployed(dataset: str, version: str, reasons: list[str], endpoint: str, links: list[str]) -> Message:
    """A candidate passed the gate and is live."""
    return Message(
        event="deployed",
        subject=f"{dataset}: version {version} is live",
        lines=[
            f"Version {version} of {dataset} passed the gate and serves on the endpoint {endpoint}.",
            *(f"- {reason}" for reason in reasons),
            *links,
        ],
    )


def rejected(dataset: str, version: str, reasons: list[str], links: list[str]) -> Message:
    """A candidate did not pass the gate."""
    return Message(
        event="rejected",
        subject=f"{dataset}: version {version} was rejected",
        lines=[
            f"Version {version} of {dataset} was not deployed; what was live stays live.",
            *(f"- {reason}" for reason in reasons),
            *links,
        ],
    )


def nothing_to_do(dataset: str, why: str) -> Message:
    """The run had nothing to train."""
    return Message(event="nothing-to-do", subject=f"{dataset}: nothing to do", lines=[why])


def failed(dataset: str, run_id: str, task: str | None, reason: str, log_url: str | None) -> Message:
    """A run ended without a result."""
    where = f" in {task}" if task else ""
    return Message(
        event="failed",
        subject=f"{dataset}: training failed{where}",
        lines=[
            f"The run {run_id} of train_model failed{where}. What was live stays live.",
            reason,
            *([f"Log: {log_url}"] if log_url else []),
        ],
    )


def send(settings: Settings, message: Message) -> bool:
    """Publish a message to the environment's topic; never raises.

    Returns:
        Whether it was handed to SNS; False too when no topic is configured.
    """
    log.info("%s\n%s", message.subject, message.text)
    topic = settings.notifications.topic_arn
    if topic is None:
        return False
    try:
        import boto3
        from botocore.config import Config

        # Short: nobody should wait for a notifier that does not answer.
        limits = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "max_attempts": 2})
        subject = f"[{settings.environment}] {message.subject}".encode("ascii", "replace").decode()
        boto3.client("sns", region_name=settings.aws.region, config=limits).publish(
            TopicArn=topic,
            Subject=subject if len(subject) <= _SUBJECT_LIMIT else subject[: _SUBJECT_LIMIT - 3] + "...",
            Message=message.text,
            MessageAttributes={
                "event": {"DataType": "String", "StringValue": message.event},
                "environment": {"DataType": "String", "StringValue": settings.environment},
            },
        )
    except Exception:
        log.warning("the notification %r could not be sent to %s", message.subject, topic, exc_info=True)
        return False
    return True
