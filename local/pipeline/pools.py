"""Airflow's pools as the DAGs need them: compared, and made.

A task of a pool that is not there never starts, and nothing but the scheduler's log says so; they are made before the
DAGs that use them. What another made is left alone, and so is the pool of a dataset that is gone: it holds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import httpx

from local.pipeline.airflow_client import AirflowClient

if TYPE_CHECKING:
    from mlplatform.config.pools import Pool


def make(client: AirflowClient, wanted: Iterable[Pool], *, dry_run: bool = False) -> list[str]:
    """Make the pools that are missing, change those that differ, and return a line about each of both.

    Raises:
        httpx.HTTPStatusError: Airflow refused one; those before it are made, and another call goes on.
    """
    said = []
    there = client.pools()
    for pool in wanted:
        fields = asdict(pool)
        if (found := there.get(pool.name)) is None:
            said.append(f"+ pool {pool.name}: {pool.slots} slots")
            if not dry_run:
                _make_one(client, fields)
        elif change := [key for key in fields if found[key] != fields[key]]:
            told = ", ".join(f"{key} {found[key]!r} becomes {fields[key]!r}" for key in change)
            said.append(f"~ pool {pool.name}: {told}")
            if not dry_run:
                client.change_pool(**fields)
    return said


def _make_one(client: AirflowClient, fields: dict[str, Any]) -> None:
    try:
        client.make_pool(**fields)
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.CONFLICT:
            raise
        client.change_pool(**fields)  # somebody else has just made it
