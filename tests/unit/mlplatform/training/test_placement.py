from __future__ import annotations

from typing import Any

import pytest

from mlplatform import storage
from mlplatform.config.environment import Settings
from mlplatform.people import report_links
from mlplatform.training import placement


@pytest.mark.parametrize(
    ("family", "device", "gpus", "gpu", "image"),
    [
        pytest.param("xgboost", "auto", 1, True, "trainer-cuda:1", id="takes-the-gpu-there-is"),
        pytest.param("xgboost", "cuda", 4, True, "trainer-cuda:1", id="wants-gpus"),
        pytest.param("xgboost", "cpu", 1, False, "trainer:1", id="wants-none"),
        pytest.param("xgboost", "auto", 0, False, "trainer:1", id="there-is-none"),
        pytest.param("linear", "auto", 1, False, "trainer:1", id="has-no-use-for-one"),
        pytest.param("net", "auto", 1, True, "trainer-cuda:1", id="network-on-a-gpu"),
        pytest.param("net", "cpu", 1, False, "trainer-cuda:1", id="network-without-one-is-in-no-other-image"),
    ],
)
def test_where_a_training_runs(settings: Settings, family: str, device: str, gpus: int, gpu: bool, image: str) -> None:
    train = settings.steps["train"].model_copy(update={"gpus": gpus})
    sized = settings.model_copy(update={"steps": settings.steps | {"train": train}})
    assert placement.of_params(sized, {"family": family, "device": device}) == {"gpu": gpu, "image": image}


@pytest.mark.parametrize("family", ["xgboost", "net"])
def test_where_the_cluster_has_no_gpus_nothing_asks_for_one(settings: Settings, family: str) -> None:
    kubernetes = settings.kubernetes.model_copy(update={"gpus": False})
    without = settings.model_copy(update={"kubernetes": kubernetes})
    assert settings.steps["train"].gpus > 0
    assert placement.of_params(settings, {"family": family, "device": "auto"})["gpu"] is True
    for device in ("auto", "cuda"):
        assert placement.of_params(without, {"family": family, "device": device})["gpu"] is False


@pytest.mark.usefixtures("s3")
def test_a_report_in_aws_is_read_in_the_console() -> None:
    assert report_links.page("s3://data/runs/parcels/key/validate/report.html") == (
        "https://console.aws.amazon.com/s3/object/data?region=us-east-1"
        "&prefix=runs%2Fparcels%2Fkey%2Fvalidate%2Freport.html"
    )


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("http://127.0.0.1:4566", "http://127.0.0.1:4566/data/a%20b/report.html"),
        (
            "https://s3.cn-north-1.amazonaws.com.cn",
            "https://console.amazonaws.cn/s3/object/data?region=cn-north-1&prefix=a%20b%2Freport.html",
        ),
        ("https://amazonaws.com.evil.example", "https://amazonaws.com.evil.example/data/a%20b/report.html"),
    ],
)
def test_a_report_elsewhere_is_read_where_it_lies(monkeypatch: pytest.MonkeyPatch, endpoint: str, address: str) -> None:
    import boto3

    client: Any = boto3.client("s3", region_name="cn-north-1", endpoint_url=endpoint)
    monkeypatch.setattr(storage, "client", lambda: client)
    assert report_links.page("s3://data/a b/report.html") == address


def test_what_is_no_address_in_s3_is_refused() -> None:
    with pytest.raises(ValueError, match="is not an S3 address"):
        report_links.page("/tmp/report.html")
