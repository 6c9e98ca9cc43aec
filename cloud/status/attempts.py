"""Reading that does not hold up the rest: what cannot be read becomes `Unread`, with the reason."""

from __future__ import annotations

from collections.abc import Callable

import botocore.exceptions
import httpx

from cloud.errors import CloudError
from cloud.status.facts import Read, Unread
from mlplatform.errors import ConfigError, StorageError


def attempt[T](read: Callable[[], T]) -> Read[T]:
    """Return what was read, or why it could not be."""
    try:
        return read()
    except httpx.HTTPStatusError as error:
        return Unread(f"Airflow refused: {error.response.status_code} {error.response.text[:200]}")
    except httpx.HTTPError as error:
        return Unread(f"Airflow cannot be reached: {error}")
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        return Unread(f"AWS answered: {error}")
    except (ConfigError, StorageError, CloudError) as error:
        return Unread(str(error))
    except (KeyError, TypeError, ValueError) as error:
        return Unread(f"an answer that is not understood: {type(error).__name__}: {error}")
