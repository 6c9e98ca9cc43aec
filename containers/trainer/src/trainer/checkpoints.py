"""The saved states of a trial, on S3, so that another attempt goes on where the last one was stopped.

::

    <prefix>/<step>-<what is trained>-<SHA-256>.tar    a state; its name tells whether it is whole and whose it is
    <prefix>/latest.json                               `Pointer`: the last two, newest first

A state is written under a name of its own before the pointer names it, so an attempt that ends in between leaves the
last one as it was. A state that is missing or damaged is passed over for the one before it.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from mlplatform.documents.base import Document
from mlplatform.errors import NewerReleaseError, StorageError
from mlplatform.storage import (
    client,
    download,
    join,
    list_objects,
    split_uri,
    try_read_document,
    upload,
    write_document,
)

POINTER = "latest.json"
KEPT = 2

_NAME = re.compile(r"(?P<step>\d{8,})-(?P<fingerprint>[0-9a-f]+)-(?P<digest>[0-9a-f]{64})\.tar")

log = logging.getLogger(__name__)


class Pointer(Document):
    """``latest.json``."""

    names: list[str]
    """Of the states that are kept, newest first."""


class Checkpoints:
    """The states of one trial.

    Args:
        prefix: S3 address of a folder of their own.
        fingerprint: hash (hexadecimal) of all that decides what is trained; a state of something else is not taken.
        scratch: folder on disk for a state's files and their archive, at the same time.
    """

    def __init__(self, prefix: str, fingerprint: str, scratch: Path) -> None:
        self.prefix = prefix
        self.fingerprint = fingerprint
        self.scratch = scratch

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Save the state after a step.

        Args:
            write: writes the state's files into an empty folder.

        Raises:
            OSError, botocore's errors: it could not be saved; those saved before are as they were.
        """
        with tempfile.TemporaryDirectory(dir=self.scratch) as name:
            files, archive = Path(name, "state"), Path(name, "state.tar")
            files.mkdir()
            write(files)
            with tarfile.open(archive, "w") as tar:
                tar.add(files, arcname=".")
            shutil.rmtree(files)
            saved = f"{step:08d}-{self.fingerprint}-{_digest(archive)}.tar"
            upload(archive, self._uri(saved))
        kept = [saved, *(name for name in self._known() if name != saved)][:KEPT]
        write_document(self._uri(POINTER), Pointer(names=kept))
        for name in self._stored():
            if name not in kept:
                self._delete(name)

    def restore(self, folder: Path) -> int | None:
        """Copy the newest usable state into a folder that does not exist, and return its step.

        Returns:
            None, and there is no such folder, where there is no usable state.
        """
        for name in self._known():
            match = _NAME.fullmatch(name)
            if match is None or match["fingerprint"] != self.fingerprint:
                log.warning("%s: is not a state of this training; passed over", self._uri(name))
                continue
            archive = self.scratch / name
            try:
                if problem := self._fetch(name, archive, match["digest"]):
                    log.warning("%s: %s; passed over", self._uri(name), problem)
                    continue
                with tarfile.open(archive) as tar:
                    tar.extractall(folder, filter="data")
            finally:
                archive.unlink(missing_ok=True)
            return int(match["step"])
        return None

    def remove(self) -> None:
        """Delete all states: the trial has come to its end."""
        for name in [*self._stored(), POINTER]:
            self._delete(name)

    def _fetch(self, name: str, archive: Path, digest: str) -> str | None:
        """Copy an archive to disk, and return what is wrong with it."""
        from botocore.exceptions import ClientError

        try:
            download(self._uri(name), archive)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
                return "no such object"
            raise
        return None if _digest(archive) == digest else "its content is not what was saved"

    def _known(self) -> list[str]:
        """Names of states, newest first: those the pointer names, and without one those that are there."""
        try:
            pointer = try_read_document(self._uri(POINTER), Pointer)
        except NewerReleaseError as error:
            log.warning("%s; its states are passed over", error)
            return []
        except StorageError as error:
            log.warning("%s; the states that are there are taken as they are", error)
            pointer = None
        return pointer.names if pointer else sorted(self._stored(), reverse=True)

    def _stored(self) -> list[str]:
        objects = list_objects(self._uri("") + "/")
        names = (str(entry["Key"]).rsplit("/", 1)[-1] for entry in objects)
        return [name for name in names if _NAME.fullmatch(name)]

    def _delete(self, name: str) -> None:
        bucket, key = split_uri(self._uri(name))
        client().delete_object(Bucket=bucket, Key=key)

    def _uri(self, name: str) -> str:
        return join(self.prefix, name) if name else self.prefix


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
