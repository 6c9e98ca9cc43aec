"""Which DAGs start paused, by Airflow's own code, and what an approval is worth while a deployment is paused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def session() -> Iterator[Any]:
    """Airflow's database, empty and in memory."""
    from airflow.models import import_all_models
    from airflow.models.base import Base
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session

    import_all_models()
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


def parse(session: Any, *dags: Any) -> dict[str, bool]:
    """Do what a DAG processor does that sees DAGs for the first time; return which of them are paused."""
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.models.dag import DagModel
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from sqlalchemy import select

    parsed = [LazyDeserializedDAG.from_dag(dag) for dag in dags]
    update_dag_parsing_results_in_db("dags", None, parsed, {}, None, set(), session)
    return {model.dag_id: model.is_paused for model in session.scalars(select(DagModel))}


def test_dags_start_as_the_settings_say_where_airflow_would_pause_them(session: Any, dags: dict[str, Any]) -> None:
    from airflow.configuration import conf
    from airflow.sdk import DAG

    assert conf.getboolean("core", "dags_are_paused_at_creation"), "as in the cloud"
    says_nothing = DAG("says_nothing")
    says_nothing.fileloc, says_nothing.relative_fileloc = "/dags/says_nothing.py", "says_nothing.py"
    paused = parse(session, says_nothing, *dags.values())
    assert len(paused) == 1 + len(dags)
    assert {dag for dag, is_paused in paused.items() if is_paused} == {"says_nothing"}


@pytest.mark.parametrize(("paused", "delivered"), [(False, ["deploy__flights"]), (True, [])])
def test_an_approval_reaches_a_deployment_that_is_not_paused_at_that_moment(
    session: Any, dags: dict[str, Any], paused: bool, delivered: list[str]
) -> None:
    """What smoke says of a paused deployment, and why: unpausing later brings nothing back."""
    from airflow.assets.manager import AssetManager
    from airflow.models.asset import AssetDagRunQueue, AssetModel
    from airflow.models.dag import DagModel
    from sqlalchemy import select

    parse(session, dags["train__flights"], dags["deploy__flights"])
    deploy = session.get(DagModel, "deploy__flights")
    deploy.is_paused = paused
    session.flush()
    asset = session.scalars(select(AssetModel).where(AssetModel.name == "approved-models-flights")).one()
    AssetManager.register_asset_change(asset=asset, session=session)
    deploy.is_paused = False
    session.flush()
    assert [queued.target_dag_id for queued in session.scalars(select(AssetDagRunQueue))] == delivered
