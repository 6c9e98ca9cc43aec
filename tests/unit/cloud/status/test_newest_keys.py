"""The newest keys are found without listing the old ones, however old the newest is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from cloud.status.newest_keys import NewestKeys
from mlplatform.promotion import audit
from tests.unit.cloud.status.made import NOW


class Bucket:
    """Keys as S3 lists them, and how many were listed."""

    def __init__(self, *ages: float) -> None:
        self.keys = sorted(audit.key_since("flights", NOW - timedelta(days=age)) + ".json" for age in ages)
        self.listings: list[int] = []

    def get_paginator(self, _: str) -> Bucket:
        return self

    def paginate(self, Prefix: str, StartAfter: str = "", **_: Any) -> Iterator[dict[str, Any]]:
        found = [{"Key": key} for key in self.keys if key.startswith(Prefix) and key > StartAfter]
        self.listings.append(len(found))
        yield {"Contents": found} if found else {}


def key_since(moment: datetime) -> str:
    return audit.key_since("flights", moment)


def newest(bucket: Bucket) -> NewestKeys:
    return NewestKeys(bucket, "artifacts", key_since, "audit/flights/", NOW)


@pytest.mark.parametrize(
    ("ages", "listings"),
    [
        pytest.param([1, 20, 300, 900], [2], id="this month"),
        pytest.param([300, 900], [0, 1], id="this year"),
        pytest.param([900, 901], [0, 0, 2], id="long ago"),
    ],
)
def test_no_more_is_listed_than_leads_to_the_newest(ages: list[float], listings: list[int]) -> None:
    bucket = Bucket(*ages)
    assert next(iter(newest(bucket))) == bucket.keys[-1]
    assert bucket.listings == listings


def test_all_come_once_newest_first() -> None:
    bucket = Bucket(1, 20, 300, 900, 901)
    keys = newest(bucket)
    assert list(keys) == bucket.keys[::-1]
    assert list(keys) == bucket.keys[::-1]
    assert bucket.listings == [2, 3, 5]


def test_what_was_listed_for_one_question_serves_the_next() -> None:
    bucket = Bucket(1, 2, 3)
    keys = newest(bucket)
    assert list(islice(keys, 1)) == bucket.keys[-1:]
    assert list(islice(keys, 3)) == bucket.keys[::-1]
    assert bucket.listings == [3]


def test_an_empty_log_has_none() -> None:
    assert list(newest(Bucket())) == []
