"""Drift of new files against the champion's training data, with a real registry."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import Run, depots, parcels, parquet

from mlplatform import storage
from trainer import tracking
from trainer.validation.document import DriftReport, ValidationDocument


@pytest.fixture
def run(tracked: Run) -> Run:
    tracked.model["checks"] = {"label_balance": None, "drift": {"minimum_rows": 100}}
    return tracked


def another(run: Run, name: str) -> Run:
    """The next run of the same dataset."""
    return Run(f"{run.name}-{name}", tracking_uri=run.tracking_uri, model=run.model)


def client(run: Run) -> Any:
    return tracking.connect(run.tracking_uri)


def make_champion(run: Run, tags: dict[str, str] | None = None) -> str:
    """Register a version as the run's, make it champion, and return its number."""
    name = run.model["registered_model"]
    client(run).create_registered_model(name)
    trial = client(run).create_run(client(run).create_experiment(name))
    version = client(run).create_model_version(
        name,
        source=f"{trial.info.artifact_uri}/model",
        run_id=trial.info.run_id,
        tags={"run_prefix": run.prefix} if tags is None else tags,
    )
    client(run).set_registered_model_alias(name, "champion", version.version)
    return str(version.version)


def land(run: Run, new: bool = True, first_id: int = 0, file: str = "a", **changes: list[Any]) -> str:
    columns = parcels()
    rows = len(next(iter(changes.values()), columns["id"]))
    cut = {name: values[:rows] for name, values in columns.items()}
    content = parquet({**cut, "id": list(range(first_id, first_id + rows)), **changes})
    if not any(source.table == "depots" for source in run.objects):
        run.land("depots", parquet(depots()), new=new)
    return run.land("parcels", content, file, new)


def report(run: Run) -> DriftReport:
    return storage.read_document(f"{run.prefix}/validate/validate.json", ValidationDocument).drift


def test_without_a_champion_there_is_nothing_to_compare_with(run: Run) -> None:
    land(run)
    assert run.done("validate").warnings == []
    assert report(run).note == "there is no champion yet to compare with"
    assert "no champion yet" in storage.read_bytes(f"{run.prefix}/validate/report.html").decode()


def test_a_registered_model_without_a_champion_is_the_same(run: Run) -> None:
    client(run).create_registered_model(run.model["registered_model"])
    land(run)
    assert run.done("validate").warnings == []
    assert report(run).note == "there is no champion yet to compare with"


def test_data_like_the_champions_has_not_drifted(run: Run) -> None:
    land(run)
    run.done("validate")
    version = make_champion(run)
    later = another(run, "later")
    columns = parcels(seed=5)
    land(later, weight=columns["weight"], depot=columns["depot"], express=columns["express"])
    assert later.done("validate").warnings == []
    found = report(later)
    assert found.champion == version
    measured = found.tables["parcels"].columns
    assert {name for name, one in measured.items() if one.psi is not None} == {
        "depot",
        "weight",
        "express",
        "delivered",
        "delay",
    }
    assert measured["sent"].note == "times move on"
    assert measured["id"].note == "names the row"
    assert all(one.psi < 0.25 for one in measured.values() if one.psi is not None)
    assert "only 3 rows" in (found.tables["depots"].note or "")


@pytest.mark.parametrize("severity", ["warn", "fail"])
def test_a_column_that_has_moved_is_told(run: Run, severity: str) -> None:
    land(run)
    run.done("validate")
    version = make_champion(run)
    run.model["checks"]["drift"]["severity"] = severity
    later = another(run, "later")
    uri = land(later, depot=["west"] * 450 + ["north"] * 75 + ["south"] * 75, weight=[900.0] * 600)
    if severity == "warn":
        messages = later.done("validate").warnings
    else:
        failure = later.refused("validate")
        assert failure.subjects == [uri]
        messages = failure.message.splitlines()
    depot, weight = messages
    assert f"column depot: has drifted from the training data of champion version {version}: PSI" in depot
    assert "most of all west" in depot
    assert "75.0% now" in depot
    assert "column weight" in weight
    page = storage.read_bytes(f"{later.prefix}/validate/report.html").decode()
    assert "drifted</strong>" in page
    assert "<polyline" in page


def test_a_column_that_stops_being_filled_has_drifted(run: Run) -> None:
    land(run)
    run.done("validate")
    make_champion(run)
    later = another(run, "later")
    land(later, weight=[None if row % 2 else value for row, value in enumerate(parcels()["weight"])])
    (warning,) = later.done("validate").warnings
    assert "column weight" in warning
    assert "most of all missing" in warning


def test_a_column_that_was_the_same_in_every_row_has_drifted_when_it_is_not(run: Run) -> None:
    land(run, weight=[5.0] * 600)
    run.done("validate")
    make_champion(run)
    later = another(run, "later")
    land(later, weight=[5.0, 6.0] * 300)
    (warning,) = later.done("validate").warnings
    assert "column weight" in warning
    assert "most of all above 5, 0.0% before and 50.0% now" in warning


def test_a_new_category_has_drifted(run: Run) -> None:
    run.model["tables"]["parcels"]["columns"]["depot"].pop("allowed")
    land(run)
    run.done("validate")
    make_champion(run)
    later = another(run, "later")
    land(later, depot=["moon"] * 300 + parcels()["depot"][:300])
    (warning,) = later.done("validate").warnings
    assert "most of all other values, 0.0% before and 50.0% now" in warning


def test_only_what_is_new_is_compared(run: Run) -> None:
    """Many accepted rows must not hide that the few new ones are of another kind."""
    land(run)
    run.done("validate")
    make_champion(run)
    later = another(run, "later")
    land(later, new=False, file="old")
    land(later, first_id=1000, weight=[900.0] * 120)
    (warning,) = later.done("validate").warnings
    assert "column weight" in warning
    assert report(later).tables["parcels"].rows == 120


def test_without_anything_new_all_is_compared(run: Run) -> None:
    land(run)
    run.done("validate")
    make_champion(run)
    later = another(run, "later")
    land(later, new=False)
    assert later.done("validate").warnings == []
    assert report(later).tables["parcels"].rows == 600


def test_too_few_new_rows_are_not_compared(run: Run) -> None:
    land(run)
    run.done("validate")
    make_champion(run)
    later = another(run, "later")
    land(later, weight=[900.0] * 99)
    assert later.done("validate").warnings == []
    assert "100 new rows" in (report(later).note or "")


def test_a_champion_of_too_few_rows_is_not_compared_with(run: Run) -> None:
    land(run, weight=[1.0] * 80)
    run.done("validate")
    make_champion(run)
    later = another(run, "later")
    land(later, weight=[900.0] * 600)
    assert later.done("validate").warnings == []
    assert "champion's data has only 80 rows" in (report(later).tables["parcels"].note or "")


def test_columns_may_be_left_out(run: Run) -> None:
    run.model["tables"]["parcels"]["columns"]["weight"]["drift"] = False
    land(run)
    run.done("validate")
    make_champion(run)
    later = another(run, "later")
    land(later, weight=[900.0] * 600)
    assert later.done("validate").warnings == []
    assert report(later).tables["parcels"].columns["weight"].note == "not wanted (drift: false)"


def test_a_column_or_a_table_that_is_new_is_not_compared(run: Run) -> None:
    for table, column in (("parcels", "weight"), ("parcels", "delay")):
        run.model["tables"][table]["columns"].pop(column)
    run.model["tables"].pop("depots")
    run.land("parcels", parquet(parcels()))
    run.done("validate")
    make_champion(run)
    later = another(run, "later")
    later.model = {**run.model, "tables": Run("x").model["tables"]}
    land(later)
    assert later.done("validate").warnings == []
    assert report(later).tables["parcels"].columns["weight"].note == "not in the champion's data"
    assert report(later).tables["depots"].note == "the champion was trained without this table"


def test_a_column_of_another_type_is_not_compared(run: Run) -> None:
    land(run)
    run.done("validate")
    make_champion(run)
    later = another(run, "later")
    later.model["tables"]["parcels"]["columns"]["express"] = {"type": "integer"}
    land(later, express=[1] * 600)
    assert later.done("validate").warnings == []
    assert report(later).tables["parcels"].columns["express"].note == "of another type in the champion's data"


OLD = '{"version": 1, "step": "validate", "run_key": "x", "started_at": "2026-01-01T00:00:00Z", '
OLD += '"finished_at": "2026-01-01T00:00:00Z", "files": []}'


@pytest.mark.parametrize("left", ["no tag", "no result", "old result", "no profile", "broken profile"])
def test_an_old_champion_without_a_profile_is_no_error(run: Run, left: str) -> None:
    land(run)
    if left == "old result":
        storage.write_bytes(f"{run.prefix}/validate/result.json", OLD.encode())
    elif left in ("no profile", "broken profile"):
        profile = run.done("validate").profile_uri
        bucket, key = storage.split_uri(profile)
        storage.client().delete_object(Bucket=bucket, Key=key)
        if left == "broken profile":
            storage.write_bytes(profile, b"{")
    version = make_champion(run, {} if left == "no tag" else None)
    later = another(run, "later")
    land(later, weight=[900.0] * 600)
    assert later.done("validate").warnings == []
    assert f"champion version {version}" in (report(later).note or "")


def test_drift_can_be_switched_off(run: Run) -> None:
    run.model["checks"]["drift"] = None
    run.tracking_uri = "http://127.0.0.1:9"
    land(run)
    assert run.done("validate").warnings == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.usefixtures("impatient")
def test_a_registry_that_does_not_answer_is_a_warning(run: Run) -> None:
    run.tracking_uri = "http://127.0.0.1:9"
    land(run)
    (warning,) = run.done("validate").warnings
    assert "drift is not measured: the tracking server at http://127.0.0.1:9" in warning


@pytest.mark.usefixtures("impatient")
def test_where_drift_is_to_fail_the_run_it_cannot_pass_unmeasured(run: Run) -> None:
    run.tracking_uri = "http://127.0.0.1:9"
    run.model["checks"]["drift"]["severity"] = "fail"
    land(run)
    with pytest.raises(Exception, match="Max retries exceeded"):
        run.step("validate")
    assert storage.try_read_bytes(f"{run.prefix}/validate/result.json") is None
