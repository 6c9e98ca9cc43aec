"""Waiting for data."""

from __future__ import annotations

from typing import Any

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException


class LandingSensor(S3KeySensor):
    """An S3KeySensor for which a file that never came is no failure: the run is skipped.

    ``soft_fail`` would skip on every other error too, and a sensor that may not list its bucket would
    look like one with nothing to do for ever.
    """

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the trigger's event or the deferral's timeout."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowSensorTimeout:
            raise AirflowSkipException(
                f"{self.bucket_key}: nothing came within {self.timeout / 3600:g} h; there is nothing to train"
            ) from None
