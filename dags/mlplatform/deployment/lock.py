"""One deployment of a dataset's endpoint at a time, by a document in S3.

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
from typing import Self

from mlplatform import storage
from mlplatform.documents.deployment import LockRecord
from mlplatform.errors import LockBusyError, LockLostError

log = logging.getLogger(__name__)
LEASE_SECONDS = 60.0
"""Without a renewal for so long an owner is gone, or may no longer change anything."""
RENEW_SECONDS = 15.0
WAIT_SECONDS = 900.0
POLL_SECONDS = 5.0


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
            LockBusyError: the other deployment did not end in time.
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
            if self._replace(self._etag, released=True):
                return
            self.renew()  # finds what an earlier renewal has written whose answer was lost
            if not self._lost:
                self._replace(self._etag, released=True)
        except Exception as error:  # its lease ends by itself, and there may be an error that matters more
            log.warning("%s could not be given back: %s", self._uri, error)

    def confirm(self) -> None:
        """Make sure that this deployment still has the lock; to be called before each change.

        Raises:
            LockLostError: it has not.
        """
        if self._lost or self._clock() - self._renewed >= LEASE_SECONDS:
            raise LockLostError(
                f"{self._uri}: another deployment may have taken over; nothing more was changed. Try again"
            )

    def renew(self) -> None:
        """Tell the others that this deployment is still at work."""
        if self._replace(self._etag):
            return
        found = storage.read_stored(self._uri, LockRecord)
        if found is not None and found.document.token == self._token:  # an earlier renewal whose answer was lost
            self._etag = found.etag
        else:
            self._lost = True
            log.error("%s was taken over by %s", self._uri, found.document.owner if found else "nobody")

    def _acquire(self) -> None:
        began = self._clock()
        seen, since, told = "", began, ""
        while True:
            found = storage.read_stored(self._uri, LockRecord)
            if found is None:
                if self._create():
                    return
            else:
                record, etag = found.document, found.etag
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
                    raise LockBusyError(
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

    def _create(self) -> bool:
        record, sent = self._record(released=False), self._clock()
        return self._holds(storage.create_document(self._uri, record), sent)

    def _replace(self, etag: str, *, released: bool = False) -> bool:
        record, sent = self._record(released=released), self._clock()
        return self._holds(storage.replace_document(self._uri, record, etag), sent)

    def _record(self, *, released: bool) -> LockRecord:
        return LockRecord(
            owner=self._owner,
            token=self._token,
            taken_at=self._taken_at,
            renewed_at=datetime.now(UTC),
            released=released,
        )

    def _holds(self, etag: str | None, sent: float) -> bool:
        if etag is None:
            return False
        self._etag, self._renewed = etag, sent
        return True
