"""Names that are too long for a service."""

from __future__ import annotations

import re

from mlplatform.names import shortened


def test_a_name_that_fits_stays_as_it_is() -> None:
    assert shortened("flights", 7) == "flights"


def test_names_that_begin_alike_stay_two() -> None:
    one, other = shortened("flights-late-north", 16), shortened("flights-late-south", 16)
    assert one != other
    assert one == shortened("flights-late-north", 16)
    assert re.fullmatch(r"flights-[0-9a-f]{8}", one)


def test_it_is_not_longer_than_asked_and_has_no_hyphens_in_a_row() -> None:
    for limit in range(10, 30):
        short = shortened("a-b--c-d-e-f-g-h-i-j-k-l-m-n-o-p", limit)
        assert len(short) <= limit
        assert not short.rpartition("-")[0].endswith("-")
