"""Bring the DAG bucket up to date with the project: check first, make Airflow's pools, upload what changed, delete.

Every object is replaced whole and the comparison is made anew each time, so an interrupted push is mended by
the next one. On the way no DAG imports what is not there yet: what DAG files use goes first, DAG files next,
deletions last, and among these DAG files first.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
from botocore.exceptions import BotoCoreError, ClientError

from cloud import bundle, document_versions, wheels
from cloud.datasets import Pool
from cloud.errors import CloudError
from local.pipeline import pools
from local.pipeline.airflow_client import AirflowClient

_PARALLEL = 8  # a boto3 client keeps ten connections


@dataclass(frozen=True)
class Plan:
    """What a push has to do, as keys of the bucket in the order it happens."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    deleted: tuple[str, ...]
    unchanged: tuple[str, ...]

    @property
    def uploads(self) -> tuple[str, ...]:
        """Keys to write: what Airflow shall not parse, what DAG files use, DAG files."""
        return tuple(sorted(self.added + self.changed, key=lambda key: (bundle.order(key), key)))


@dataclass(frozen=True)
class Report:
    """What a push did, or would do."""

    bucket: str
    environment: str
    plan: Plan
    dry_run: bool
    imported: bool
    """Whether Airflow has imported the DAG files; they were only compiled if not."""
    pools: tuple[str, ...] = ()
    """A line about each of Airflow's pools that was made or changed."""

    @property
    def nothing_to_do(self) -> bool:
        """Whether the bucket was up to date."""
        return not (self.plan.uploads or self.plan.deleted or self.pools)

    def lines(self) -> list[str]:
        """Return the report for people, line by line."""
        plan = self.plan
        if self.nothing_to_do:
            return [f"s3://{self.bucket}/{bundle.PREFIX}: up to date, {len(plan.unchanged)} files ({self.environment})"]
        marks = [("+", plan.added), ("~", plan.changed), ("-", plan.deleted)]
        shown = [f"  {pool}" for pool in self.pools]
        shown += [f"  {mark} {key}" for mark, keys in marks for key in sorted(keys)]
        counts = [(len(plan.added), "added"), (len(plan.changed), "changed"), (len(plan.deleted), "deleted")]
        told = ", ".join(f"{count} {word}" for count, word in [*counts, (len(plan.unchanged), "unchanged")])
        shown.append(f"s3://{self.bucket}/{bundle.PREFIX}: {told} ({self.environment})")
        if not self.imported:
            shown.append("The DAG files were compiled but not imported: `make setup` makes Airflow's environment.")
        shown.append("Dry run: nothing was written." if self.dry_run else "Airflow takes it over within a minute.")
        return shown


def plan(local: Mapping[str, str], remote: Mapping[str, str | None]) -> Plan:
    """Compare the bundle with the bucket; Terraform's keys and other folders are left alone.

    Args:
        local: SHA-256 of each file of the bundle, by key.
        remote: SHA-256 of each object under ``dags/``, by key; None where S3 does not know it.
    """
    owned = {key for key in remote if key.startswith(bundle.PREFIX) and key not in bundle.TERRAFORM_KEYS}
    owned = {key for key in owned if not key.endswith("/")}  # the console's "folders"
    gone = sorted(owned - set(local), key=lambda key: (not bundle.is_dag_file(key), key))
    return Plan(
        added=tuple(sorted(key for key in local if key not in remote)),
        changed=tuple(sorted(key for key in local if key in remote and remote[key] != local[key])),
        deleted=tuple(gone),
        unchanged=tuple(sorted(key for key in local if key in remote and remote[key] == local[key])),
    )


def push(
    bucket: str,
    *,
    client: Any,
    api: AirflowClient,
    root: Path,
    environment: str | None = None,
    dry_run: bool = False,
    airflow: Path | None = None,
    documents: Path | None = None,
) -> Report:
    """Check the DAG bundle, then make the bucket hold it.

    Args:
        bucket: the DAG bucket.
        client: S3 client of boto3.
        api: the environment's Airflow, whose pools are made before the DAGs that use them.
        root: the project's folder.
        environment: the environment that is meant; a bucket of another one is refused.
        dry_run: check and compare only.
        airflow: interpreter that has Airflow, to import the DAG files if any of the bundle changed; the
            project's own environment by default, and without one the files are only compiled.
        documents: the file that says which documents the images read and write; the environment's by default.

    Raises:
        CloudError: the bundle or the bucket is not fit for it; nothing was written then. Or Airflow refused a pool;
            no DAG was written then. Or AWS refused an object half-way: the message says so, and the next push goes on.
    """
    contents = bundle.contents(root)
    with _told(bucket), ThreadPoolExecutor(_PARALLEL) as pool:
        keys = _list(client, bucket)
        present = set(keys)
        for prefix in ("plugins/", "requirements/", "startup/"):
            present |= set(_list(client, bucket, prefix))
        platform = _platform(client, bucket, present, environment)
        _refuse(_outdated(client, bucket, root, present), bucket)
        _refuse(bundle.check_python(contents) or bundle.check_settings(contents, platform), bucket)
        _refuse(_misunderstandings(root, platform, documents), bucket)
        mine = [key for key in keys if key in contents]
        sums = dict(zip(mine, pool.map(lambda key: _sha256_of(client, bucket, key), mine), strict=True))
        todo = plan({key: _sha256(content) for key, content in contents.items()}, {key: sums.get(key) for key in keys})
        work_to_do = bool(todo.uploads or todo.deleted)
        python = airflow or root / ".local" / "envs" / "airflow" / "bin" / "python"
        if work_to_do and python.exists():
            _refuse(bundle.check_imports(contents, platform, python), bucket)
        made = _make_pools(api, bundle.pools(contents, platform), dry_run)
        if not dry_run:
            _apply(client, bucket, todo, contents, pool)
    name = str(json.loads(platform)["environment"])
    return Report(bucket, name, todo, dry_run, imported=not work_to_do or python.exists(), pools=tuple(made))


def _make_pools(api: AirflowClient, wanted: Iterable[Pool], dry_run: bool) -> list[str]:
    """Make Airflow's pools before anything is uploaded; also where nothing is: somebody may have deleted one."""
    try:
        return pools.make(api, wanted, dry_run=dry_run)
    except httpx.HTTPStatusError as error:
        problem = f"refused a pool: {error.response.text}"
    except (ClientError, BotoCoreError) as error:
        problem = f"cannot be asked: {error}"
    raise CloudError(
        f"Airflow {problem}. Without its pools no task of the DAGs would start, so nothing was pushed: see with "
        "`make smoke` that the environment is available, and push again"
    )


def _apply(client: Any, bucket: str, todo: Plan, contents: Mapping[str, bytes], pool: ThreadPoolExecutor) -> None:
    def upload(key: str) -> None:
        # S3 checks the sum and keeps it: with a KMS key, the ETag says nothing about the content.
        content = contents[key]
        client.put_object(
            Bucket=bucket, Key=key, Body=content, ChecksumAlgorithm="SHA256", ChecksumSHA256=_sha256(content)
        )

    def delete(key: str) -> None:
        client.delete_object(Bucket=bucket, Key=key)

    for _, keys in groupby(todo.uploads, bundle.order):
        _all(pool, upload, keys)
    for _, keys in groupby(todo.deleted, bundle.is_dag_file):
        _all(pool, delete, keys)


def _all(pool: ThreadPoolExecutor, action: Callable[[str], None], keys: Iterable[str]) -> None:
    """Do all of a phase before the next one begins; after a failure start nothing more."""
    futures = [pool.submit(action, key) for key in keys]
    try:
        for future in futures:
            future.result()
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _list(client: Any, bucket: str, prefix: str = bundle.PREFIX) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]


def _platform(client: Any, bucket: str, present: set[str], environment: str | None) -> bytes:
    """Return ``platform.json``, which Terraform has written."""
    address = f"s3://{bucket}/{bundle.PLATFORM}"
    if bundle.PLATFORM not in present:
        raise CloudError(f"{address}: no such object. Terraform writes it: run `make apply` for this environment first")
    content: bytes = client.get_object(Bucket=bucket, Key=bundle.PLATFORM)["Body"].read()
    try:
        found = json.loads(content)["environment"]
    except (ValueError, KeyError, TypeError):
        raise CloudError(
            f"{address}: not JSON that names its environment: run `make apply` to write it again"
        ) from None
    if environment is not None and found != environment:
        raise CloudError(f"{address} is of the environment {found!r}, not {environment!r}: nothing was pushed")
    return content


def _outdated(client: Any, bucket: str, root: Path, present: set[str]) -> list[str]:
    """Return what is wrong with the files that the environment itself is made of."""
    problems = []
    for key, source in bundle.TERRAFORM_COPIES.items():
        if key not in present:
            problems.append(f"s3://{bucket}/{key}: no such object; run `make apply` first")
        elif client.get_object(Bucket=bucket, Key=key)["Body"].read() != (root / source).read_bytes():
            problems.append(
                f"{source} differs from s3://{bucket}/{key}: run `make apply` first, which updates the environment too"
            )
    if wheels.KEY not in present:
        problems.append(f"s3://{bucket}/{wheels.KEY}: no such object; run `make apply` first")
    elif client.head_object(Bucket=bucket, Key=wheels.KEY)["Metadata"].get(wheels.MARK) != wheels.digest(root):
        problems.append(
            f"s3://{bucket}/{wheels.KEY} has the wheels of another {wheels.REQUIREMENTS}: run `make apply` first, "
            "which updates the environment too"
        )
    return problems


def _misunderstandings(root: Path, platform: bytes, documents: Path | None) -> list[str]:
    """Return which documents bundle and images would not understand of each other."""
    facts = json.loads(platform)
    name, images = facts["environment"], facts["images"]
    try:
        path = documents or document_versions.path_of(root, name)
        commit, theirs = document_versions.read(path, images, name)
    except CloudError as error:
        return [str(error)]
    return document_versions.mismatches(theirs, document_versions.of_library(root / "dags"), name, commit)


def _refuse(problems: list[str], bucket: str) -> None:
    if problems:
        raise CloudError("\n".join([*problems, f"Nothing was pushed to s3://{bucket}."]))


def _sha256(content: bytes) -> str:
    """As S3 writes it."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def _sha256_of(client: Any, bucket: str, key: str) -> str | None:
    found: str | None = client.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED").get("ChecksumSHA256")
    return found


@contextmanager
def _told(bucket: str) -> Iterator[None]:
    """Say what AWS's errors mean here and what to do."""
    try:
        yield
    except ClientError as error:
        code = str(error.response["Error"].get("Code", ""))
        words = f"{error.operation_name}: {error.response['Error'].get('Message', code)}"
        if code in ("NoSuchBucket", "404"):
            raise CloudError(f"s3://{bucket}: no such bucket: run `make apply` for this environment first") from None
        if code in ("AccessDenied", "403", "KMS.AccessDeniedException", "AllAccessDisabled"):
            raise CloudError(
                f"s3://{bucket}: no access ({words}). Are these the credentials of the right account? Pushing needs "
                "s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on the bucket, kms:Decrypt and "
                "kms:GenerateDataKey on its key. What was pushed before this stays; push again afterwards"
            ) from None
        if code in ("ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"):
            raise CloudError(f"s3://{bucket}: AWS does not take the credentials ({words}): sign in again") from None
        raise CloudError(f"s3://{bucket}: {words} ({code}). Push again: it goes on where this one stopped") from None
    except BotoCoreError as error:
        profile = f" (AWS_PROFILE={os.environ['AWS_PROFILE']})" if "AWS_PROFILE" in os.environ else ""
        raise CloudError(f"s3://{bucket}: {error}{profile}. Mend that and push again") from None
