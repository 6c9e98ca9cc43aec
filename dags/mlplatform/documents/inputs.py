"""The files a run reads, and why one was refused."""

from __future__ import annotations

from pydantic import Field

from mlplatform.config.base import Strict
from mlplatform.documents.base import Document


class InputObject(Strict):
    """One landed file, pinned to the version that was there when the run began."""

    table: str
    bucket: str
    key: str
    version_id: str | None
    content_id: str = Field(description="Identity of the bytes (checksum or ETag, and size), the same if landed again.")
    size: int
    new: bool = Field(description="Whether it still lies in the landing bucket, not yet accepted or quarantined.")

    @property
    def uri(self) -> str:
        """Address of the file, without its version."""
        return f"s3://{self.bucket}/{self.key}"


class InputManifest(Document):
    """``inputs.json``: the files a run reads."""

    objects: list[InputObject]


class QuarantineReason(Document):
    """``<file>.reason.json`` beside a quarantined file."""

    run_key: str
    uri: str
    content_id: str
    reason: str
