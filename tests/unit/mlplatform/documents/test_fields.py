"""A field that changes what is done raises its document's version, else an older reader would silently drop it.

`fields.txt` has every field of every document, with the people's schemas that it embeds. Whoever changes a field meets
this test, decides, and has the file written again (`make docs`); who reviews the change sees both.
"""

from __future__ import annotations

from pathlib import Path

from mlplatform.documents.fields import render

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
        "(a guard, a limit, another meaning)? Then raise the schema_version of each document above, and `upgrade` what "
        "older releases wrote. Then, or if it only informs: `make docs`"
    )


def test_a_guard_s_limit_is_among_them() -> None:
    assert any(line.startswith("RunConfig 2: policy.calibration.maximum_error") for line in render().splitlines())
    assert any(line.startswith("Decision 2: policy.calibration.maximum_error") for line in render().splitlines())
