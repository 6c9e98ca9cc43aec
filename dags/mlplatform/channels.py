"""The ways to people: SNS, Slack, e-mail. Each does it or raises; who is told what is in ``mlplatform.notifications``.

Airflow's hooks are imported inside the functions. What is secret comes from Airflow connections; no error tells it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from html import escape

from mlplatform.config import Email, Slack

# SNS: "must be ASCII text that begins with a letter, number, or punctuation mark … less than 100 characters".
_SUBJECT_LIMIT = 99
_SECRET_EXTRAS = ("access_token", "client_secret")
# Slack's client logs the address of the webhook, which is a secret. Not one of `getLogger`: nobody configures it.
_SILENT = logging.Logger("silent", level=logging.CRITICAL + 1)


class ChannelError(RuntimeError):
    """A message could not be sent; says why, without secrets."""


def publish(topic: str, region: str, subject: str, text: str, attributes: Mapping[str, str]) -> None:
    """Publish to an SNS topic, with the rights of the role."""
    import boto3
    from botocore.config import Config

    # Short: nobody should wait for a notifier that does not answer.
    limits = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "max_attempts": 2})
    plain = subject.encode("ascii", "replace").decode()
    boto3.client("sns", region_name=region, config=limits).publish(
        TopicArn=topic,
        Subject=plain if len(plain) <= _SUBJECT_LIMIT else plain[: _SUBJECT_LIMIT - 3] + "...",
        Message=text,
        MessageAttributes={key: {"DataType": "String", "StringValue": value} for key, value in attributes.items()},
    )


def post(slack: Slack, timeout: float, subject: str, text: str) -> None:
    """Post to a Slack channel.

    Raises:
        ChannelError: Slack did not take it.
    """
    from airflow.providers.slack.hooks.slack_webhook import SlackWebhookHook

    hook = SlackWebhookHook(
        slack_webhook_conn_id=slack.connection, timeout=max(1, int(timeout)), retry_handlers=[], logger=_SILENT
    )
    with _without_secrets(slack.connection):
        hook.send_text(f"*{_plain(subject)}*\n{_plain(text)}", unfurl_links=False)


def mail(email: Email, subject: str, text: str) -> None:
    """Send a mail; sender, server and password are in the connection.

    Raises:
        ChannelError: the server did not take it.
    """
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    with _without_secrets(email.connection), SmtpHook(smtp_conn_id=email.connection) as smtp:
        smtp.send_email_smtp(to=email.recipients, subject=subject, html_content=f"<pre>{escape(text)}</pre>")


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
