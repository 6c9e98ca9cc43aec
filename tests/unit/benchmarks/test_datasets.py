"""Bundles of many datasets, and what is told of them."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from benchmarks.dag_parsing import Parsed, measure
from benchmarks.dataset_bundle import PLATFORM, assemble, names
from benchmarks.datasets import row
from benchmarks.datasets_at_once import configuration
from benchmarks.scheduler_loop import WARM_UP, Loops, summarize
from benchmarks.scratch_postgres import server
from mlplatform.config.loading import load_dataset, model_names


def test_a_bundle_has_so_many_valid_datasets_that_share_nothing(tmp_path: Path) -> None:
    bundle = assemble(tmp_path / "bundle", 3)
    assert model_names(bundle) == names(3) == ["flights-001", "flights-002", "flights-003"]
    found = [load_dataset(name, bundle) for name in names(3)]
    assert all(dataset.enabled for dataset in found)
    assert len({dataset.model.registered_model for dataset in found}) == 3
    assert {len(dataset.model.features) for dataset in found} == {21}


def test_what_a_process_takes_is_its_own() -> None:
    def work() -> int:
        return sum(number * number for number in range(3_000_000)) and 7

    cpu, peak, number = measure(work)
    idle, _, _ = measure(lambda: 7)
    assert number == 7
    assert cpu > 10 * idle
    assert peak > 1


def test_a_row_adds_up_and_names_the_slowest() -> None:
    files = [Parsed("a.py", 1.26, 100.0, 0), Parsed("b.py", 4.0, 1200.4, 30), Parsed("c.py", 2.0, 90.0, 30)]
    assert row(30, files, Parsed("b.py", 1.04, 80.6, 1)) == "| 30 | 60 | 7.3 | 4.0 (`b.py`) | 1,200 | 1.0 | 81 |"


def test_the_first_loops_do_not_count() -> None:
    cpu, wall = [9.0] * WARM_UP + [0.03, 0.01, 0.02], [9.0] * WARM_UP + [0.1, 0.3, 0.2]
    assert summarize(400, 100, cpu, wall) == Loops(400, 100, 20.0, 200.0, 300.0)


def test_a_server_of_a_benchmark_s_own_goes_when_it_is_done(tmp_path: Path) -> None:
    with server(tmp_path / "postgres") as address:
        url = address.replace("+psycopg2", "")
        with psycopg.connect(url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=2)


def test_the_configuration_of_those_that_train_at_once_is_theirs_alone(tmp_path: Path) -> None:
    configuration(tmp_path / "config", 2)
    (tmp_path / "platform.json").write_text(json.dumps(PLATFORM), encoding="utf-8")
    assert model_names(tmp_path) == ["iris-001", "iris-002"]
    assert all(load_dataset(name, tmp_path).enabled for name in model_names(tmp_path))
