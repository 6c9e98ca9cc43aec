"""Telling people: which channels there are, and those that Airflow's providers have hooks for.

What is secret comes from Airflow connections; no error tells it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Self

from mlplatform.config.environment import Email, Settings, Slack
from mlplatform.people import channels
from mlplatform.people.channels import Channel, ChannelError, SnsTopic
from mlplatform.people.messages import Message

_SECRET_EXTRAS = ("access_token", "client_secret")
# Slack's client logs the address of the webhook, which is a secret. Not one of `getLogger`: nobody configures it.
_SILENT = logging.Logger("silent", level=logging.CRITICAL + 1)


class SlackWebhook(Channel):
    """A Slack channel, posted to through an incoming webhook."""

    name = "Slack"

    def __init__(self, slack: Slack, timeout_seconds: float) -> None:
        self.events = slack.events
        self._connection, self._timeout = slack.connection, max(1, int(timeout_seconds))

    @classmethod
    def configured(cls, settings: Settings) -> Self | None:
        """Return the channel of the settings."""
        chosen = settings.notifications
        return None if chosen.slack is None else cls(chosen.slack, chosen.timeout_seconds)

    def send(self, subject: str, message: Message) -> None:
        """Post the message.

        Raises:
            ChannelError: Slack did not take it.
        """
        from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

        hook = SlackWebhookHook(
            slack_webhook_conn_id=self._connection, timeout=self._timeout, retry_handlers=[], logger=_SILENT
        )
        with _without_secrets(self._connection):
            hook.send_text(f"*{_plain(subject)}*\n{_plain(message.text)}", unfurl_links=False)


class Mail(Channel):
    """E-mail through an SMTP server; sender, server and password are in the connection."""

    name = "e-mail"

    def __init__(self, email: Email) -> None:
        self.events = email.events
        self._connection, self._recipients = email.connection, email.recipients

    @classmethod
    def configured(cls, settings: Settings) -> Self | None:
        """Return the recipients of the settings."""
        chosen = settings.notifications.email
        return None if chosen is None else cls(chosen)

    def send(self, subject: str, message: Message) -> None:
        """Send the mail.

        Raises:
            ChannelError: the server did not take it.
        """
        from airflow.providers.smtp.hooks.smtp import SmtpHook

        with _without_secrets(self._connection), SmtpHook(smtp_conn_id=self._connection) as smtp:
            text = f"<pre>{escape(message.text)}</pre>"
            smtp.send_email_smtp(to=self._recipients, subject=subject, html_content=text)


CHANNELS: tuple[type[Channel], ...] = (SnsTopic, SlackWebhook, Mail)
"""One entry per channel; docs/how-to/add-a-notification-channel.md."""


def send(settings: Settings, message: Message) -> bool:
    """Tell people; see `mlplatform.people.channels.send`."""
    return channels.send(settings, message, CHANNELS)


@contextmanager
def _without_secrets(connection: str) -> Iterator[None]:
    """Raise what goes wrong as `ChannelError`: libraries and servers repeat in an error what they were given."""
    from airflow.sdk import BaseHook

    found = BaseHook.get_connection(connection)
    try:
        yield
    except Exception as error:
        text = str(error)
        for secret in (found.password, *(found.extra_dejson.get(name) for name in _SECRET_EXTRAS)):
            if secret:
                text = text.replace(secret.strip(), "***")
        raise ChannelError(f"{type(error).__name__}: {text}") from None


def _plain(text: str) -> str:
    """Escape what Slack would take for mark-up, such as a mention of everybody in somebody's reason."""
    return escape(text, quote=False)
