"""Errors that no retry can mend, told to Airflow as such. Imports Airflow."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from airflow.sdk.exceptions import AirflowFailException

from mlplatform.config import ConfigError
from mlplatform.steps import Refused


def no_retry_when_refused[**Parameters, Returned](
    function: Callable[Parameters, Returned],
) -> Callable[Parameters, Returned]:
    """Turn `Refused` and `ConfigError` into a failure that Airflow does not try again."""

    @wraps(function)
    def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        try:
            return function(*args, **kwargs)
        except (Refused, ConfigError) as error:
            raise AirflowFailException(str(error)) from None

    return guarded
