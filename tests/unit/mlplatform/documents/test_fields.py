"""A field that changes what is done raises its document's version, else an older reader would silently drop it.

`fields.txt` has every field of every document, with the people's schemas that it embeds. Whoever changes a field meets
this test, decides, and has the file written again (`make docs`); who reviews the change sees both.
"""

from __future__ import annotations

from pathlib import Path

from mlplatform.documents.fields import forgotten, render

FILE = Path(__file__).with_name("fields.txt")


def test_the_fields_of_every_document_are_those_that_were_reviewed() -> None:
    known, present = FILE.read_text(encoding="utf-8").splitlines(), render().splitlines()
    changed = [f"+ {line}" for line in present if line not in known] + [
        f"- {line}" for line in known if line not in present
    ]
    assert not changed, (
        "documents have changed:\n  "
        + "\n  ".join(changed)
        + "\nDoes a step or a task do something else because of it "
        "(a limit, another meaning)? Then raise the schema_version of each document above, and `upgrade` what older "
        "releases wrote; of a guard's limit raise GUARDS_VERSION (docs/how-to/add-a-guard.md). Then, or if it only "
        "informs: `make docs`"
    )


def test_a_guard_s_limit_is_among_them() -> None:
    assert any(line.startswith("RunConfig: policy.calibration.maximum_error") for line in render().splitlines())
    assert any(line.startswith("Decision: policy.calibration.maximum_error") for line in render().splitlines())


def test_a_guard_cannot_be_added_without_raising_its_version() -> None:
    known = "RunConfig: schema_version 2\nRunConfig: policy.slices X\nRunConfig: seed int\n"
    assert forgotten(known, known) is None
    assert forgotten(known, known + "RunConfig: lineage dict (optional)\n") is None
    added = known + "RunConfig: policy.minimum_accuracy float (optional)\n"
    told = forgotten(known, added)
    assert told is not None
    assert "raise GUARDS_VERSION in dags/mlplatform/config/policy.py" in told
    assert "RunConfig: policy.minimum_accuracy" in told
    assert forgotten(known, added.replace("schema_version 2", "schema_version 3")) is None
