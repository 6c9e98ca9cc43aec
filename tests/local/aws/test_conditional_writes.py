"""The lock in front of moto's check-then-write, with an application that leaves much time between the two."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from local.aws.conditional_writes import SerializedWrites

SIGNED = {"HTTP_AUTHORIZATION": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request"}


class CheckThenWrite:
    """Accepts the first writer of a path, as long as nobody else is between its check and its write."""

    def __init__(self) -> None:
        self.taken: set[str] = set()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        path = environ["PATH_INFO"]
        free = path not in self.taken
        time.sleep(0.02)
        self.taken.add(path)
        return [b"won" if free else b"lost"]


def winners(environ: dict[str, str]) -> int:
    app = SerializedWrites(CheckThenWrite())
    request = {"REQUEST_METHOD": "PUT", "PATH_INFO": "/bucket/lock", "QUERY_STRING": "", **environ}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: b"".join(app(dict(request), None)), range(8)))
    return answers.count(b"won")


def test_one_writer_wins() -> None:
    assert winners(SIGNED) == 1
    assert winners({"QUERY_STRING": "X-Amz-Signature=abc"}) == 1


def test_other_services_do_not_wait() -> None:
    assert winners({"HTTP_AUTHORIZATION": SIGNED["HTTP_AUTHORIZATION"].replace("/s3/", "/sqs/")}) > 1
