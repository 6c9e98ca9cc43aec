"""What the platform needs of S3: moto behind our server, over kept connections and from many threads."""

from __future__ import annotations

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

MEBIBYTE = 1024 * 1024


@pytest.fixture
def s3(stage: Any) -> Any:
    return stage.s3


@pytest.fixture
def bucket(stage: Any) -> str:
    return str(stage.bucket)


def code_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def test_versions(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"one")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"two")["VersionId"]
    assert s3.head_object(Bucket=bucket, Key="k")["VersionId"] == second
    assert s3.get_object(Bucket=bucket, Key="k", VersionId=first)["Body"].read() == b"one"
    marker = s3.delete_object(Bucket=bucket, Key="k")
    assert marker["DeleteMarker"] is True
    with pytest.raises(ClientError) as gone:
        s3.get_object(Bucket=bucket, Key="k")
    assert code_of(gone) == ("NoSuchKey", 404)
    assert s3.get_object(Bucket=bucket, Key="k", VersionId=second)["Body"].read() == b"two"
    copied = s3.copy_object(Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "k", "VersionId": first})
    assert copied["CopySourceVersionId"] == first
    assert s3.get_object(Bucket=bucket, Key="c")["Body"].read() == b"one"


def test_put_if_none_match_refuses_an_existing_key(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="lock", Body=b"mine", IfNoneMatch="*")
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="lock", Body=b"theirs", IfNoneMatch="*")
    assert code_of(refused) == ("PreconditionFailed", 412)
    assert s3.get_object(Bucket=bucket, Key="lock")["Body"].read() == b"mine"


def test_put_if_match_is_compare_and_swap(s3: Any, bucket: str) -> None:
    old = s3.put_object(Bucket=bucket, Key="k", Body=b"one")["ETag"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"two", IfMatch=old)
    with pytest.raises(ClientError) as refused:
        s3.put_object(Bucket=bucket, Key="k", Body=b"three", IfMatch=old)
    assert code_of(refused) == ("PreconditionFailed", 412)


def test_of_many_conditional_writers_exactly_one_wins(s3: Any, bucket: str) -> None:
    def put(writer: int, key: int) -> bool:
        try:
            s3.put_object(Bucket=bucket, Key=f"lock-{key}", Body=str(writer).encode(), IfNoneMatch="*")
        except s3.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "PreconditionFailed":
                raise
            return False
        return True

    for key in range(10):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda writer, key=key: put(writer, key), range(8)))
        assert sum(won) == 1
        winner = s3.get_object(Bucket=bucket, Key=f"lock-{key}")["Body"].read()
        assert winner == str(won.index(True)).encode()


def test_multipart_upload_and_ranges(s3: Any, bucket: str) -> None:
    parts = [bytes([i]) * (5 * MEBIBYTE) for i in (1, 2)] + [b"tail"]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    done = [
        {
            "PartNumber": n,
            "ETag": s3.upload_part(Bucket=bucket, Key="big", UploadId=upload, PartNumber=n, Body=part)["ETag"],
        }
        for n, part in enumerate(parts, start=1)
    ]
    s3.complete_multipart_upload(Bucket=bucket, Key="big", UploadId=upload, MultipartUpload={"Parts": done})
    head = s3.head_object(Bucket=bucket, Key="big")
    assert head["ContentLength"] == 10 * MEBIBYTE + 4
    middle = s3.get_object(Bucket=bucket, Key="big", Range=f"bytes={5 * MEBIBYTE - 1}-{5 * MEBIBYTE}")
    assert middle["Body"].read() == b"\x01\x02"
    assert middle["ContentRange"] == f"bytes {5 * MEBIBYTE - 1}-{5 * MEBIBYTE}/{head['ContentLength']}"
    assert s3.get_object(Bucket=bucket, Key="big", Range="bytes=-4")["Body"].read() == b"tail"
    with pytest.raises(ClientError) as outside:
        s3.get_object(Bucket=bucket, Key="big", Range=f"bytes={head['ContentLength']}-")
    assert code_of(outside) == ("InvalidRange", 416)


def test_checksums(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"data", ChecksumAlgorithm="SHA256")
    head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(b"data").digest()).decode()
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"] == f'"{hashlib.md5(b"data").hexdigest()}"'


def test_listing_in_pages(s3: Any, bucket: str) -> None:
    for i in range(7):
        s3.put_object(Bucket=bucket, Key=f"a/{i}", Body=b"")
    s3.put_object(Bucket=bucket, Key="b/0", Body=b"")
    pages = list(
        s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="a/", PaginationConfig={"PageSize": 3})
    )
    assert [len(page["Contents"]) for page in pages] == [3, 3, 1]
    folders = s3.list_objects_v2(Bucket=bucket, Delimiter="/")["CommonPrefixes"]
    assert [folder["Prefix"] for folder in folders] == ["a/", "b/"]
    assert s3.list_objects_v2(Bucket=bucket, Prefix="none/")["KeyCount"] == 0


def test_a_missing_bucket_and_key(s3: Any, bucket: str) -> None:
    with pytest.raises(ClientError) as no_key:
        s3.get_object(Bucket=bucket, Key="none")
    assert code_of(no_key) == ("NoSuchKey", 404)
    with pytest.raises(ClientError) as no_head:
        s3.head_object(Bucket=bucket, Key="none")
    assert code_of(no_head) == ("404", 404)
    with pytest.raises(ClientError) as no_bucket:
        s3.put_object(Bucket=f"{bucket}-none", Key="k", Body=b"")
    assert code_of(no_bucket) == ("NoSuchBucket", 404)


def test_many_threads(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def round_trip(i: int) -> bool:
        body = hashlib.sha256(str(i).encode()).digest() * (1 + i % 7 * 500)
        s3.put_object(Bucket=bucket, Key=f"k/{i}", Body=body)
        return bool(s3.get_object(Bucket=bucket, Key=f"k/{i}")["Body"].read() == body)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(round_trip, range(200)))
    assert s3.list_objects_v2(Bucket=bucket, Prefix="k/")["KeyCount"] == 200


def test_connections_are_kept(aws: Any, s3: Any, bucket: str) -> None:
    with httpx.Client(verify=False) as client:
        for _ in range(3):
            answer = client.get(f"{aws.url}/_local/health")
            assert answer.http_version == "HTTP/1.1"
            assert "close" not in answer.headers.get("connection", "")
            assert client._transport._pool.connections[0].is_idle()  # type: ignore[attr-defined]


def test_chunked_upload_over_a_presigned_url(s3: Any, bucket: str) -> None:
    url = s3.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "k"})
    with httpx.Client(verify=False) as client:
        assert client.put(url, content=iter([b"one", b"two"])).status_code == 200
        assert (
            client.get(s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})).text == "onetwo"
        )
