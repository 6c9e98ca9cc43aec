"""Errors that no retry can mend, told to Airflow as such."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from airflow.sdk.exceptions import AirflowFailException

from mlplatform.errors import ConfigError, NewerReleaseError, NonRetryableError


def fail_without_retry[**Parameters, Returned](
    function: Callable[Parameters, Returned],
) -> Callable[Parameters, Returned]:
    """Turn errors that no retry can mend into a failure that Airflow does not try again."""

    @wraps(function)
    def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
        try:
            return function(*args, **kwargs)
        except NewerReleaseError as error:
            raise AirflowFailException(
                f"{error}: the DAG bundle is older than the images; run `make push-dags`"
            ) from None
        except (NonRetryableError, ConfigError) as error:
            raise AirflowFailException(str(error)) from None

    return guarded
