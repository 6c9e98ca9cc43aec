from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

PARAMS = {
    "family": "xgboost",
    "trials": 4,
    "search": "random",
    "device": "cpu",
    "seed": 0,
    "wait_for_new_data": True,
    "minimum_quality": None,
    "minimum_improvement": None,
}


@pytest.fixture
def sensor(dag: Any) -> Any:
    import copy

    return copy.copy(dag.get_task("ingest.wait_for_data"))


@pytest.mark.parametrize(
    ("wait", "key"),
    [
        (True, "s3://landing-bucket/flights/flights/*.parquet"),
        (False, "s3://data-bucket/raw/flights/flights/*.parquet"),
    ],
)
def test_what_it_waits_for(sensor: Any, wait: bool, key: str) -> None:
    sensor.render_template_fields({"params": {**PARAMS, "wait_for_new_data": wait}, **sensor.dag.user_defined_macros})
    assert sensor.bucket_key == key
    assert sensor.wildcard_match
    assert sensor.check_fn is None
    assert sensor.deferrable
    assert sensor.timeout == 3600
    assert sensor.execution_timeout.total_seconds() > sensor.timeout


class LandingBucket:
    """As much of an asynchronous S3 client as lists the keys under a prefix."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys

    def get_paginator(self, operation: str) -> LandingBucket:
        return self

    async def paginate(self, Bucket: str, Prefix: str, Delimiter: str) -> AsyncIterator[dict[str, Any]]:
        assert Bucket == "landing-bucket"
        yield {"Contents": [{"Key": key} for key in self.keys if key.startswith(Prefix)]}


@pytest.mark.parametrize(
    ("key", "comes"),
    [
        ("flights/flights/jan.parquet", True),
        ("labels/flights/2013-01-01.parquet", False),
        ("labels/flights/flights/late.parquet", False),
        ("quarantine/flights/flights/bad.parquet", False),
        ("flights/weather/jan.parquet", False),
        ("flights/flights/jan.csv", False),
    ],
)
def test_only_data_is_waited_for_and_no_labels(sensor: Any, key: str, comes: bool) -> None:
    """With the trigger's own way of looking."""
    sensor.render_template_fields({"params": PARAMS, **sensor.dag.user_defined_macros})
    looked = sensor.hook.check_key_async(LandingBucket(key), None, sensor.bucket_key, sensor.wildcard_match)
    assert asyncio.run(looked) is comes


def test_a_landing_that_never_came_is_skipped_not_failed(sensor: Any) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException, match="nothing came within 1 h"):
        sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, {})


def test_a_trigger_that_broke_is_a_failure(sensor: Any) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowSkipException

    with pytest.raises(AirflowException, match="AccessDenied") as raised:
        sensor.resume_execution("execute_complete", {"event": {"status": "error", "message": "AccessDenied"}}, {})
    assert not isinstance(raised.value, AirflowSkipException)


def test_impossible_parameters_are_refused_before_anything_waits(sensor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from mlplatform.config.loading import load_model
    from mlplatform.training import request

    sensor._pre_execute_hook({"params": PARAMS})
    with pytest.raises(AirflowFailException, match=r"its grid has 243 points .*, more than trials"):
        sensor._pre_execute_hook({"params": {**PARAMS, "search": "grid"}})
    with pytest.raises(AirflowFailException, match="device: 'cuda' is not for the family sklearn"):
        sensor._pre_execute_hook({"params": {**PARAMS, "family": "sklearn", "device": "cuda"}})
    model = load_model("flights")
    only = model.model_copy(update={"families": {"xgboost": model.families["xgboost"]}})
    monkeypatch.setattr(request, "load_model", lambda name: only)
    with pytest.raises(AirflowFailException, match="family: 'sklearn' is not configured for the dataset 'flights'"):
        sensor._pre_execute_hook({"params": {**PARAMS, "family": "sklearn"}})
