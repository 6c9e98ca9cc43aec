"""Model archives: from S3 into a directory, without trusting what is inside."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import Any

import boto3
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.aws.sagemaker.errors import DeploymentError, ValidationException


class ModelData:
    """Reads model archives from the S3 of this same server, or of another emulator."""

    def __init__(self, endpoint_url: str, region: str, account: str) -> None:
        self._endpoint_url = endpoint_url
        self._region = region
        self._account = account

    def check(self, url: str) -> None:
        """Raise ValidationException unless there is an object, as CreateModel does."""
        bucket, key = _split(url)
        try:
            self.client().head_object(Bucket=bucket, Key=key)
        except (ClientError, BotoCoreError):
            raise ValidationException(f"Could not find model data at {url}.") from None

    def unpack(self, url: str, directory: Path) -> None:
        """Unpack the gzip-compressed tar archive at the URL into an existing directory.

        Raises DeploymentError, with the real service's message, when it is gone, is no archive, or holds a
        member that would land outside of the directory (absolute path, "..", link, device).
        """
        bucket, key = _split(url)
        with tempfile.TemporaryFile(dir=directory.parent) as archive:
            try:
                self.client().download_fileobj(bucket, key, archive)
            except (ClientError, BotoCoreError) as error:
                raise DeploymentError(
                    f'Failed to download model data from URL "{url}". Please ensure that there is an object located at '
                    f"the URL and that the role passed to CreateModel has permissions to download the model. ({error})"
                ) from None
            archive.seek(0)
            try:
                with tarfile.open(fileobj=archive, mode="r:gz") as tar:
                    tar.extractall(directory, filter="data")
            except (tarfile.TarError, OSError, EOFError) as error:
                raise DeploymentError(
                    f'Failed to extract model data archive from URL "{url}". Please ensure that the object located at '
                    f"the URL is a valid tar.gz archive. ({error})"
                ) from None

    def client(self) -> Any:
        """Return a new S3 client."""
        # A client of its own for each use: model data is read by several threads, and seldom.
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self._endpoint_url,
            region_name=self._region,
            aws_access_key_id=self._account,  # an access key of twelve digits is an account to ministack
            aws_secret_access_key="local",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )


def _split(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not key:
        raise ValidationException(f"Could not find model data at {url}.")
    return bucket, key
