"""One deployment of a dataset's endpoint at a time, by a document in S3. No Airflow import.

The owner renews the document while it works. Whoever finds it taken waits; when it has not been renewed for a lease
while the other one watched, its owner is gone and it is taken over. No two clocks are ever compared.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, Self

from mlplatform import storage
from mlplatform.config import Strict
from mlplatform.steps import Unavailable

log = logging.getLogger(__name__)

LEASE_SECONDS = 60.0
"""Without a renewal for so long an owner is gone, or may no longer change anything."""
RENEW_SECONDS = 15.0
WAIT_SECONDS = 900.0
POLL_SECONDS = 5.0
_CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "404")


class LockRecord(Strict):
    """``lock.json``."""

    version: Literal[1] = 1
    owner: str
    """The deployment: the prefix of its documents. A second attempt at it is the same owner."""
    token: str
    """Another one for each process."""
    taken_at: datetime
    renewed_at: datetime
    released: bool = False


class LockBusy(Unavailable):
    """Another deployment is at work and did not end in time."""


class LockLost(Unavailable):
    """Another deployment has taken over; this one must not change anything any more."""


class DeploymentLock:
    """A lock to be held in a ``with`` statement."""

    def __init__(
        self,
        uri: str,
        owner: str,
        *,
        wait_seconds: float = WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._uri = uri
        self._owner = owner
        self._wait_seconds = wait_seconds
        self._clock = clock
        self._sleep = sleep
        self._token = uuid.uuid4().hex
        self._taken_at = datetime.now(UTC)
        self._etag = ""
        self._renewed = 0.0
        self._lost = False
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="deployment-lock", daemon=True)

    def __enter__(self) -> Self:
        """Wait for the lock.

        Raises:
            LockBusy: the other deployment did not end in time.
        """
        self._acquire()
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lock back, unless somebody else has it by now."""
        self._ended.set()
        if self._heart.is_alive():
            self._heart.join(RENEW_SECONDS)
        if self._lost:
            return
        try:
            self._replace(self._etag, released=True)
        except Exception as error:  # its lease ends by itself, and there may be an error that matters more
            log.warning("%s could not be given back: %s", self._uri, error)

    def confirm(self) -> None:
        """Make sure that this deployment still has the lock; to be called before each change.

        Raises:
            LockLost: it has not.
        """
        if self._lost or self._clock() - self._renewed >= LEASE_SECONDS:
            raise LockLost(f"{self._uri}: another deployment may have taken over; nothing more was changed. Try again")

    def renew(self) -> None:
        """Tell the others that this deployment is still at work."""
        if self._replace(self._etag):
            return
        found = self._read()  # an answer that was lost looks like another one's write
        if found is not None and found[0].token == self._token:
            self._etag = found[1]
        else:
            self._lost = True
            log.error("%s was taken over by %s", self._uri, found[0].owner if found else "nobody")

    def _acquire(self) -> None:
        began = self._clock()
        seen, since, told = "", began, ""
        while True:
            found = self._read()
            if found is None:
                if self._create():
                    return
            else:
                record, etag = found
                if etag != seen:
                    seen, since = etag, self._clock()
                gone = self._clock() - since >= LEASE_SECONDS
                if record.released or record.owner == self._owner or gone:
                    if gone:
                        log.warning("%s: %s has ended without a word; taking over", self._uri, record.owner)
                    if self._replace(etag):
                        return
                elif record.owner != told:
                    told = record.owner
                    log.info("waiting for another deployment, %s, at work since %s", told, record.taken_at)
                if self._clock() - began >= self._wait_seconds:
                    raise LockBusy(
                        f"another deployment, {record.owner}, is at work since {record.taken_at:%Y-%m-%d %H:%M:%S} UTC "
                        f"and did not end within {self._wait_seconds:.0f} s; nothing was changed. Try again later"
                    )
            self._sleep(POLL_SECONDS)

    def _beat(self) -> None:
        while not self._lost and not self._ended.wait(RENEW_SECONDS):
            try:
                self.renew()
            except Exception as error:
                log.warning("%s could not be renewed, trying again: %s", self._uri, error)

    def _body(self, *, released: bool) -> bytes:
        record = LockRecord(
            owner=self._owner,
            token=self._token,
            taken_at=self._taken_at,
            renewed_at=datetime.now(UTC),
            released=released,
        )
        return record.model_dump_json(indent=2).encode()

    def _read(self) -> tuple[LockRecord, str] | None:
        from botocore.exceptions import ClientError

        bucket, key = storage.split_uri(self._uri)
        try:
            answer = storage.client().get_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                return None
            raise
        return LockRecord.model_validate_json(answer["Body"].read()), answer["ETag"]

    def _create(self) -> bool:
        return self._put(released=False, IfNoneMatch="*")

    def _replace(self, etag: str, *, released: bool = False) -> bool:
        return self._put(released=released, IfMatch=etag)

    def _put(self, *, released: bool, **condition: Any) -> bool:
        from botocore.exceptions import ClientError

        bucket, key = storage.split_uri(self._uri)
        sent = self._clock()
        try:
            answer = storage.client().put_object(
                Bucket=bucket, Key=key, Body=self._body(released=released), ContentType="application/json", **condition
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in _CONFLICTS:
                return False
            raise
        self._etag, self._renewed = answer["ETag"], sent
        return True
