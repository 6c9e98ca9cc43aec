"""Ways to people, and the sending of a message on each of them.

A channel is a class with a method that sends, or raises. A message that cannot be sent is logged and forgotten: a dead
channel never fails a run. Which ones there are is in `mlplatform.orchestration.notifications.CHANNELS`.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from typing import ClassVar, Self

from mlplatform.config.environment import NotificationEvent, Settings
from mlplatform.people.messages import Message

log = logging.getLogger(__name__)

# SNS: "must be ASCII text that begins with a letter, number, or punctuation mark … less than 100 characters".
_SUBJECT_LIMIT = 99


class ChannelError(RuntimeError):
    """A message could not be sent; says why, without secrets."""


class Channel(ABC):
    """A way to people.

    Attributes:
        name: for the log.
        events: that people want to hear of on it.
    """

    name: ClassVar[str]
    events: Collection[NotificationEvent]

    @classmethod
    @abstractmethod
    def configured(cls, settings: Settings) -> Self | None:
        """Return the channel as the environment's settings have it, None where they do not want it."""

    @abstractmethod
    def send(self, subject: str, message: Message) -> None:
        """Send a message; raises whatever goes wrong.

        Args:
            subject: the message's, with the environment's name.
            message: what is said.
        """


class SnsTopic(Channel):
    """An SNS topic, published to with the rights of the role."""

    name = "SNS"

    def __init__(self, arn: str, region: str, environment: str, events: Collection[NotificationEvent]) -> None:
        self.events = events
        self._arn, self._region, self._environment = arn, region, environment

    @classmethod
    def configured(cls, settings: Settings) -> Self | None:
        """Return the topic of the settings."""
        chosen = settings.notifications
        if chosen.topic_arn is None:
            return None
        return cls(chosen.topic_arn, settings.aws.region, settings.environment, chosen.topic_events)

    def send(self, subject: str, message: Message) -> None:
        """Publish the message, with its event and environment as attributes to filter by."""
        import boto3
        from botocore.config import Config

        # Short: nobody should wait for a notifier that does not answer.
        limits = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "max_attempts": 2})
        plain = subject.encode("ascii", "replace").decode()
        attributes = {"event": message.event, "environment": self._environment}
        boto3.client("sns", region_name=self._region, config=limits).publish(
            TopicArn=self._arn,
            Subject=plain if len(plain) <= _SUBJECT_LIMIT else plain[: _SUBJECT_LIMIT - 3] + "...",
            Message=message.text,
            MessageAttributes={key: {"DataType": "String", "StringValue": value} for key, value in attributes.items()},
        )


def send(settings: Settings, message: Message, kinds: Iterable[type[Channel]]) -> bool:
    """Tell people, on every channel that is configured for the kind of event; never raises.

    Args:
        settings: of the environment.
        message: what is said.
        kinds: of channels that there are.

    Returns:
        Whether some channel took it; False too when none is configured.
    """
    log.info("%s\n%s", message.subject, message.text)
    configured = [kind.configured(settings) for kind in kinds]
    wanted = [channel for channel in configured if channel is not None and message.event in channel.events]
    subject = f"[{settings.environment}] {message.subject}"
    sent = [_send_in_time(channel, subject, message, settings.notifications.timeout_seconds) for channel in wanted]
    return any(sent)


def _send_in_time(channel: Channel, subject: str, message: Message, seconds: float) -> bool:
    """Send, but wait no longer than so many seconds: libraries have timeouts for each read, and try again."""
    outcome: list[BaseException | None] = []

    def attempt() -> None:
        try:
            channel.send(subject, message)
        except BaseException as error:  # libraries exit, too
            outcome.append(error)
        else:
            outcome.append(None)

    thread = threading.Thread(target=attempt, name=f"notify {channel.name}", daemon=True)
    thread.start()
    thread.join(seconds)
    failure = f"no answer in {seconds:g} s" if not outcome else outcome[0]
    if failure is not None:
        shown = failure if isinstance(failure, str) else repr(failure)
        log.warning("the notification %r could not be sent by %s: %s", message.subject, channel.name, shown)
    return failure is None
