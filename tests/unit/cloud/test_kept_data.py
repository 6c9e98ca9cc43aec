from __future__ import annotations

import json
from pathlib import Path

from cloud.kept_data import STORAGE, KeptData, storage_imports

STATE = {
    "values": {
        "root_module": {
            "child_modules": [
                {
                    "address": "module.platform",
                    "child_modules": [
                        {
                            "address": STORAGE,
                            "resources": [
                                {
                                    "address": f'{STORAGE}.aws_s3_bucket.this["data"]',
                                    "mode": "managed",
                                    "values": {"id": "ml-platform-dev-data-1"},
                                },
                                {
                                    "address": f"{STORAGE}.data.aws_region.current",
                                    "mode": "data",
                                    "values": {"id": "us-east-1"},
                                },
                            ],
                        },
                        {
                            "address": "module.platform.module.storage_of_another_kind",
                            "resources": [
                                {
                                    "address": "module.platform.module.storage_of_another_kind.aws_s3_bucket.this",
                                    "mode": "managed",
                                    "values": {"id": "x"},
                                }
                            ],
                        },
                    ],
                }
            ]
        }
    }
}


def test_what_storage_holds_is_found_in_the_state() -> None:
    assert storage_imports(STATE) == {f'{STORAGE}.aws_s3_bucket.this["data"]': "ml-platform-dev-data-1"}


def test_an_empty_state_has_nothing_to_keep() -> None:
    assert storage_imports({"format_version": "1.0"}) == {}


def test_imports_and_snapshot_are_written_down_and_forgotten(tmp_path: Path) -> None:
    kept = KeptData(tmp_path)
    kept.record(storage_imports(STATE), "ml-platform-dev-final")
    # Import blocks would take in again what a destroy under way is to leave.
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".tf", ".json")]

    kept.settle()
    assert kept.recorded
    text = (tmp_path / "kept_data.tf").read_text(encoding="utf-8")
    assert f'to = {STORAGE}.aws_s3_bucket.this["data"]\n  id = "ml-platform-dev-data-1"' in text
    variables = json.loads((tmp_path / "kept_data.auto.tfvars.json").read_text(encoding="utf-8"))
    assert variables == {"restore_database_snapshot": "ml-platform-dev-final"}

    kept.forget()  # after the apply: in the state again, but the database was made from the snapshot
    assert [path.name for path in tmp_path.iterdir()] == ["kept_data.auto.tfvars.json"]
    kept.record({"a": "b"}, "ml-platform-dev-final")  # another destroy, interrupted
    kept.clear()
    kept.clear()
    assert not list(tmp_path.iterdir())
