"""What an environment is doing: what is live, what runs, what waits for whom, how monitoring and endpoints are.

`facts` is what was read, `report` what is told, `assess` leads from one to the other without asking anybody.
`reading` and `airflow_reading` ask AWS and Airflow, `places` knows where they are, `text` shows a report to people.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from cloud.airflow_api import Say
from cloud.environments import Environment
from cloud.errors import CloudError
from local.pipeline.attached import AttachedPlatform
from local.platform.home import Home, PlatformError, use_dag_library

use_dag_library()

from cloud.status.assess import assess  # noqa: E402
from cloud.status.places import Place, in_aws, on_this_machine  # noqa: E402
from cloud.status.reading import read  # noqa: E402
from cloud.status.report import Report  # noqa: E402
from cloud.status.text import shown  # noqa: E402

__all__ = ["Report", "of_environment", "of_place", "of_this_machine", "shown"]

_PARALLEL = 8  # a boto3 client keeps ten connections


def of_environment(environment: Environment, say: Say) -> Report:
    """Return the report on an environment in AWS.

    Raises:
        CloudError: nothing is applied, or AWS does not know the caller.
    """
    with in_aws(environment, say) as place:
        return of_place(place)


def of_this_machine(home: Home | None = None) -> Report:
    """Return the report on the local platform.

    Raises:
        CloudError: none runs, or not all of it.
    """
    try:
        platform = AttachedPlatform(home or Home.resolve(None))
    except PlatformError as error:
        raise CloudError(f"{error}; or name an environment in AWS with ENV=…") from None
    return of_place(on_this_machine(platform))


def of_place(place: Place) -> Report:
    """Return the report on an environment, wherever it is."""
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return assess(read(place, datetime.now(UTC), pool))
