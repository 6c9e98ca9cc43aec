from __future__ import annotations

from typing import Any

import pytest

from mlplatform.documents.inputs import InputManifest, InputObject, QuarantineReason
from mlplatform.documents.results import StepFailure
from mlplatform.errors import NonRetryableError
from mlplatform.ingest import landing
from mlplatform.ingest.landing import Plan

TABLES = ["parcels", "depots"]


def item(name: str, content: str, *, table: str = "parcels", new: bool = True) -> InputObject:
    return InputObject(
        table=table, bucket="b", key=f"x/{table}/{name}", version_id=None, content_id=content, size=1, new=new
    )


def land(s3: Any, key: str, content: bytes = b"one") -> None:
    s3.put_object(Bucket="landing", Key=key, Body=content)


def landed() -> list[InputObject]:
    return landing.list_inputs("landing", "parcels", TABLES, new=True)


def accepted() -> list[InputObject]:
    return landing.list_inputs("data", "raw/parcels", TABLES, new=False)


def keys(s3: Any, bucket: str) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def failure(*subjects: str) -> StepFailure:
    return StepFailure(step="validate", kind="bad-input", message="column late: is missing", subjects=list(subjects))


def test_new_files_join_the_accepted_ones() -> None:
    plan = landing.plan([item("feb", "2")], [item("jan", "1", new=False)])
    assert [(found.key, found.new) for found in plan.objects] == [("x/parcels/feb", True), ("x/parcels/jan", False)]
    assert plan.duplicates == []


def test_the_same_bytes_under_the_same_name_are_a_duplicate() -> None:
    plan = landing.plan([item("jan", "1")], [item("jan", "1", new=False)])
    assert [found.new for found in plan.objects] == [False]
    assert [found.key for found in plan.duplicates] == ["x/parcels/jan"]


def test_other_bytes_under_the_same_name_replace_the_accepted_file() -> None:
    plan = landing.plan([item("jan", "corrected")], [item("jan", "1", new=False)])
    assert [(found.content_id, found.new) for found in plan.objects] == [("corrected", True)]
    assert plan.duplicates == []


def test_the_same_name_in_another_table_is_another_file() -> None:
    plan = landing.plan([item("jan", "1", table="depots")], [item("jan", "1", new=False)])
    assert len(plan.objects) == 2


def test_nothing_gives_nothing() -> None:
    assert landing.plan([], []) == Plan([], [])


def test_labels_and_quarantined_files_are_no_data(s3: Any) -> None:
    land(s3, "labels/parcels/parcels/late.parquet")
    land(s3, "labels/parcels/2026-03-01.parquet")
    land(s3, "quarantine/parcels/parcels/bad.parquet")
    assert landed() == []
    land(s3, "parcels/parcels/jan.parquet")
    assert [found.key for found in landed()] == ["parcels/parcels/jan.parquet"]


@pytest.mark.parametrize(
    ("head", "identity"),
    [
        ({"ETag": '"abc"'}, "etag:abc:3"),
        ({"ETag": '"abc"', "ChecksumCRC32": "x"}, "etag:abc:3"),
        ({"ETag": '"abc"', "ChecksumSHA256": "s="}, "sha256:s=:3"),
        ({"ETag": '"abc-2"', "ChecksumCRC64NVME": "c"}, "crc64nvme:c:3"),
        ({"ETag": '"abc-2"', "ChecksumCRC32": "c-2"}, "etag:abc-2:3"),
        ({"ETag": '"abc"', "ServerSideEncryption": "aws:kms", "ChecksumCRC32": "c"}, "crc32:c:3"),
        ({"ETag": '"abc"', "ServerSideEncryption": "AES256", "ChecksumCRC32": "c"}, "etag:abc:3"),
    ],
)
def test_the_identity_of_content_is_the_strongest_there_is(head: dict[str, str], identity: str) -> None:
    assert landing.content_id({"ContentLength": 3, **head}) == identity


def test_only_parquet_files_of_configured_tables_are_read(s3: Any, caplog: pytest.LogCaptureFixture) -> None:
    for key in (
        "parcels/parcels/jan.parquet",
        "parcels/parcels/jan.csv",
        "parcels/parcels/old/jan.parquet",
        "parcels/trucks/jan.parquet",
        "parcels/parcels/",
        "other/parcels/jan.parquet",
    ):
        land(s3, key)
    (found,) = landed()
    assert found.uri == "s3://landing/parcels/parcels/jan.parquet"
    assert found.version_id
    assert found.new
    assert "jan.csv is ignored" in caplog.text


def test_acceptance_moves_files_and_keeps_their_identity(s3: Any) -> None:
    land(s3, "parcels/parcels/jan.parquet")
    land(s3, "parcels/depots/all.parquet")
    before = landed()
    settled = landing.accept(InputManifest(objects=before), "data", "parcels")
    assert keys(s3, "landing") == []
    assert keys(s3, "data") == ["raw/parcels/depots/all.parquet", "raw/parcels/parcels/jan.parquet"]
    assert settled.objects == accepted()
    assert [found.content_id for found in settled.objects] == [found.content_id for found in before]
    assert landing.accept(settled, "data", "parcels") == settled, "a second time there is nothing to do"


def test_an_interrupted_acceptance_can_be_done_again(s3: Any) -> None:
    land(s3, "parcels/parcels/jan.parquet")
    land(s3, "parcels/parcels/feb.parquet", b"two")
    manifest = InputManifest(objects=landed())
    landing.accept(InputManifest(objects=manifest.objects[:1]), "data", "parcels")
    settled = landing.accept(manifest, "data", "parcels")
    assert len(accepted()) == 2
    assert not any(found.new for found in settled.objects)


def test_a_file_replaced_meanwhile_stays_for_the_next_run(s3: Any) -> None:
    land(s3, "parcels/parcels/jan.parquet", b"first")
    manifest = InputManifest(objects=landed())
    land(s3, "parcels/parcels/jan.parquet", b"corrected")
    (found,) = landing.accept(manifest, "data", "parcels").objects
    assert s3.get_object(Bucket="data", Key=found.key)["Body"].read() == b"first"
    assert keys(s3, "landing") == ["parcels/parcels/jan.parquet"]


def test_a_file_that_vanished_cannot_be_accepted(s3: Any) -> None:
    land(s3, "parcels/parcels/jan.parquet")
    (found,) = landed()
    s3.delete_object(Bucket="landing", Key=found.key, VersionId=found.version_id)
    with pytest.raises(NonRetryableError, match=r"jan\.parquet is gone"):
        landing.accept(InputManifest(objects=[found]), "data", "parcels")


def test_a_quarantined_file_has_its_reason_beside_it_and_others_stay(s3: Any) -> None:
    land(s3, "parcels/parcels/bad.parquet")
    land(s3, "parcels/parcels/good.parquet")
    moved = landing.quarantine(
        InputManifest(objects=landed()), failure("s3://landing/parcels/parcels/bad.parquet"), "key"
    )
    assert [found.key for found in moved] == ["parcels/parcels/bad.parquet"]
    assert keys(s3, "landing") == [
        "parcels/parcels/good.parquet",
        "quarantine/parcels/parcels/bad.parquet",
        "quarantine/parcels/parcels/bad.parquet.reason.json",
    ]
    body = s3.get_object(Bucket="landing", Key="quarantine/parcels/parcels/bad.parquet.reason.json")["Body"].read()
    reason = QuarantineReason.model_validate_json(body)
    assert reason.reason == "column late: is missing"
    assert reason.run_key == "key"


def test_if_no_file_is_blamed_all_new_ones_are_quarantined_and_no_accepted_one(s3: Any) -> None:
    land(s3, "parcels/parcels/jan.parquet")
    settled = landing.accept(InputManifest(objects=landed()), "data", "parcels")
    land(s3, "parcels/parcels/feb.parquet")
    moved = landing.quarantine(InputManifest(objects=[*settled.objects, *landed()]), failure(), "key")
    assert [found.key for found in moved] == ["parcels/parcels/feb.parquet"]
    assert len(accepted()) == 1


def test_quarantine_can_be_done_again(s3: Any) -> None:
    land(s3, "parcels/parcels/bad.parquet")
    manifest = InputManifest(objects=landed())
    landing.quarantine(manifest, failure(), "key")
    again = landing.quarantine(manifest, failure(), "key")
    assert len(again) == 1
    assert landed() == []


def test_missing_tables_are_named(settings: Any) -> None:
    from mlplatform.config.loading import load_model

    assert landing.missing_tables([item("jan", "1")], load_model("parcels")) == ["depots"]
