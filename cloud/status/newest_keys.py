"""The newest keys under a prefix whose keys begin with a moment, without listing the old ones.

S3 lists in ascending order only, but from any key on: so it is asked for the last month's first, then for a year's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

LOOK_BACK = (timedelta(days=30), timedelta(days=400), None)
"""How far back the newest keys are looked for, until they are found; None: to the beginning."""


class NewestKeys:
    """Keys under a prefix, newest first; no more are listed than are asked for, and what was listed is kept.

    Args:
        s3: client of boto3.
        bucket: that they are in.
        key_since: returns a key that sorts before those from a moment on, and after all earlier ones.
        prefix: what they begin with.
        now: from which on it is looked back.
        delimiter: with one, folders are found instead of keys.
    """

    def __init__(
        self,
        s3: Any,
        bucket: str,
        key_since: Callable[[datetime], str],
        prefix: str,
        now: datetime,
        delimiter: str = "",
    ) -> None:
        self.bucket, self._s3, self._key_since, self._prefix = bucket, s3, key_since, prefix
        self._now, self._delimiter = now, delimiter
        self._found: list[str] = []
        self._ahead = list(LOOK_BACK)

    def __iter__(self) -> Iterator[str]:
        told = 0
        while True:
            newest_first = self._found[::-1]
            yield from newest_first[told:]
            told = len(newest_first)
            if not self._ahead:
                return
            self._found = self._list(self._ahead.pop(0))

    def _list(self, back: timedelta | None) -> list[str]:
        after = {"StartAfter": self._key_since(self._now - back)} if back else {}
        of_folders = {"Delimiter": self._delimiter} if self._delimiter else {}
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self._prefix, **after, **of_folders
        )
        if self._delimiter:
            return [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]
