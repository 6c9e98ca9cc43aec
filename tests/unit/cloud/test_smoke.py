"""What the smoke test asks for is what there is."""

from __future__ import annotations

from cloud.smoke import DAGS
from cloud.terraform import ROOT


def test_every_dag_of_the_bundle_is_asked_for() -> None:
    assert {path.stem for path in (ROOT / "dags").glob("*.py")} == DAGS
