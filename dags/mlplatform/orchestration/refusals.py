"""What the Kubernetes API refuses: told in one line, with what to look at, and whether another try can mend it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import KubernetesApiException
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError, MaxRetryError

from mlplatform.orchestration.quotas import UsedUp, used_up

_LIMIT = 2000
# What stays refused however often it is asked for, and what to look at.
_CANNOT_BE_MENDED: tuple[tuple[str, str], ...] = (
    (
        r"(minimum|maximum) \S+ usage per |max limit to request ratio per ",
        "steps.{step} of the settings, limits of config/kubernetes",
    ),
    (r"violates PodSecurity", "pod-security labels of config/kubernetes, `make cluster-config`"),
    (
        r"failed quota: |insufficient quota to match",
        "steps.{step} of the settings, quotas of config/kubernetes",
    ),
    (r"no PriorityClass with name", "steps.{step}.priority_class of the settings, `make cluster-config`"),
    (
        r"error looking up service account .* not found",  # not one that could not be asked for
        "steps.{step}.service_account of the settings, `make cluster-config`",
    ),
    (r'namespaces "[^"]*" not found', "kubernetes.* of the settings, `make cluster-config`"),
)
# What may be granted to the next try: an access entry takes effect.
_MAY_BE_GRANTED: tuple[tuple[str, str], ...] = (
    (r'User "[^"]*" cannot ', "Airflow's rights in config/kubernetes, `make cluster-config`"),
)
_NO_ROOM = "quotas of config/kubernetes; steps that end make room"
_NEVER_ROOM = "{wanted} the whole quota: steps.{step} of the settings, quotas of config/kubernetes"
_BY_STATUS = {400: "steps.{step} of the settings", 422: "steps.{step} of the settings"}
_UNAUTHORIZED = "kubernetes.kubeconfig of the settings"


class NoRoom(AirflowException):
    """Other pods have used up a quota: once they have ended, the same is granted."""

    def __init__(self, message: str, used: UsedUp) -> None:
        super().__init__(message)
        self.used = used


def refusal(error: BaseException | str) -> str:
    """Return in one line what the API said, or why it could not be asked.

    Args:
        error: of one of the clients, or its text, which is all that is left of one in the triggerer.
    """
    if isinstance(error, str):
        return _of_text(error)
    if isinstance(error, KubernetesApiException) and isinstance(error.__context__, HTTPError):
        error = error.__context__
    if isinstance(error, MaxRetryError):
        where = f"{getattr(error.pool, 'host', 'its address')}:{getattr(error.pool, 'port', None) or 443}"
        # The cause begins with its object's address in memory, or with the pool's words on where it is.
        cause = str(error.reason).rpartition(">: ")[2]
        return _one_line(f"the Kubernetes API at {where} does not answer: {cause.rpartition('): ')[2] or cause}")
    if not hasattr(error, "body"):
        return _one_line(f"the Kubernetes API could not be asked: {error}")
    said = _message(error.body)
    return _one_line(said or f"{getattr(error, 'status', '')} {getattr(error, 'reason', '')}".strip())


def failure(error: BaseException, step: str) -> AirflowException:
    """Return what to raise for an error of the API: one that Airflow tries again only where that may help."""
    status = getattr(error, "status", None)
    said = refusal(error)
    if not status:  # it was not reached, and its words say so
        return AirflowException(said)
    if status == 429 or status >= 500:
        return AirflowException(f"Kubernetes answered {status}: {said.removeprefix(str(status)).strip()}")
    return failure_of(said, step, status)


def failure_of(
    said: str, step: str, status: int = 403, before: str = "Kubernetes refused: ", pods: int = 1
) -> AirflowException:
    """Return what to raise for words of the API, which are also told by the events of a Job.

    Args:
        said: by the API.
        step: whose pod it is about.
        status: of the answer.
        before: how the message begins.
        pods: how many like that one have to run at the same time.
    """
    used = used_up(said)
    if used is not None and not used.can_hold(pods):
        wanted = "more than" if pods == 1 else f"{pods} such pods are more than"
        return AirflowFailException(f"{before}{said} ({_NEVER_ROOM.format(wanted=wanted, step=step)})")
    if used is not None:
        return NoRoom(f"{before}{said} ({_NO_ROOM})", used)
    for pattern, hint in _CANNOT_BE_MENDED:
        if re.search(pattern, said):
            return AirflowFailException(f"{before}{said} ({hint.format(step=step)})")
    for pattern, hint in _MAY_BE_GRANTED:
        if re.search(pattern, said):
            return AirflowException(f"{before}{said} ({hint.format(step=step)})")
    if status in _BY_STATUS:
        return AirflowFailException(f"{before}{said} ({_BY_STATUS[status].format(step=step)})")
    return AirflowException(f"{before}{said}{f' ({_UNAUTHORIZED})' if status == 401 else ''}")


@contextmanager
def told_in_one_line(step: str) -> Iterator[None]:
    """Turn what the API refuses to a step's task into the task's failure."""
    try:
        yield
    except (ApiException, HTTPError, KubernetesApiException) as error:
        raise failure(error, step) from None


def _message(body: Any) -> str | None:
    try:
        said = json.loads(body)["message"]
    except (TypeError, ValueError, KeyError):
        return None
    return said if isinstance(said, str) and said else None


def _of_text(text: str) -> str:
    """Find the API's words in the text of a client's error, which is a dump of the answer."""
    before, found, body = text.partition("HTTP response body: ")
    if found and (said := _message(body.strip())):
        return _one_line(said)
    dump = re.match(r"\((\d+)\)\s+Reason: (.*)", before)
    return f"{dump[1]} {dump[2].strip()}" if dump else _one_line(text)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LIMIT]
