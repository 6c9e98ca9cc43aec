from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloud import cost
from cloud.environments import NAMES
from cloud.errors import CloudError
from cloud.terraform import ROOT


def sizes(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "network": {"zones": 2, "single_nat_gateway": True, "interface_endpoints": []},
        "cluster": {
            "system": {"instance_types": ["m5.large"], "min_size": 2, "max_size": 3},
            "gpu": {"instance_types": ["g5.xlarge"], "max_size": 4},
        },
        "airflow": {"environment_class": "mw1.small", "min_workers": 1, "schedulers": 2},
        "mlflow": {
            "database_class": "db.t4g.micro",
            "database_storage_gib": 20,
            "database_multi_az": False,
            "task_cpu": 1024,
            "task_memory": 2048,
            "min_tasks": 1,
        },
        "endpoints": {"flights": {"instance_type": "ml.m5.large", "instance_count": 1}},
    }
    return {**base, **{name: {**base[name], **change} for name, change in changes.items()}}


def line(lines: list[cost.Line], part: str) -> float:
    return next(found.dollars for found in lines if found.part == part)


def test_hourly_prices_become_a_month() -> None:
    lines = cost.at_rest(sizes(), cost.PRICES)
    assert line(lines, "cluster") == pytest.approx(730 * 0.10)
    assert line(lines, "cpu and gpu nodes") == 0


def test_a_bastion_costs_where_there_is_one() -> None:
    with_one = cost.at_rest({**sizes(), "bastion": {"instance_type": "t4g.nano"}}, cost.PRICES)
    assert line(with_one, "bastion") == pytest.approx(730 * 0.0042 + 8 * 0.08)
    for without in (sizes(), {**sizes(), "bastion": None}):
        assert "bastion" not in {found.part for found in cost.at_rest(without, cost.PRICES)}


def test_each_size_moves_its_own_line_only() -> None:
    base = cost.at_rest(sizes(), cost.PRICES)
    for change, part in (
        ({"network": {"single_nat_gateway": False}}, "network"),
        ({"network": {"interface_endpoints": ["sts"]}}, "network"),
        ({"airflow": {"min_workers": 2}}, "airflow"),
        ({"airflow": {"schedulers": 3}}, "airflow"),
        ({"mlflow": {"database_multi_az": True}}, "mlflow database"),
        ({"mlflow": {"min_tasks": 2}}, "mlflow service"),
        ({"endpoints": {"flights": {"instance_type": "ml.m5.large", "instance_count": 2}}}, "endpoint flights"),
    ):
        changed = cost.at_rest(sizes(**change), cost.PRICES)
        dearer = {now.part for before, now in zip(base, changed, strict=True) if now.dollars > before.dollars}
        assert dearer == {part}


def test_an_endpoint_that_does_not_stand_costs_nothing() -> None:
    resting = {"flights": {"instance_type": "ml.m5.large", "instance_count": 2, "at_rest": False}}
    assert line(cost.at_rest(sizes(endpoints=resting), cost.PRICES), "endpoint flights") == 0


def test_training_runs_on_as_many_nodes_as_trials_or_as_there_may_be() -> None:
    few, _ = cost.training_hour(sizes(), {"training": {"parallel_pods": 2}}, cost.PRICES)
    many, what = cost.training_hour(sizes(), {"training": {"parallel_pods": 100}}, cost.PRICES)
    assert many == pytest.approx(2 * few)
    assert "4 × g5.xlarge" in what


def test_without_gpu_nodes_training_is_priced_on_those_without() -> None:
    cpu = {"instance_types": ["m5.xlarge"], "max_size": 3, "spot": False}
    plain, what = cost.training_hour(
        sizes(cluster={"gpu": None, "cpu": cpu}), {"training": {"parallel_pods": 8}}, cost.PRICES
    )
    assert plain == pytest.approx(3 * 0.192)
    assert "3 × m5.xlarge, gone" in what
    spot, _ = cost.training_hour(
        sizes(cluster={"gpu": None, "cpu": {**cpu, "spot": True}}), {"training": {"parallel_pods": 8}}, cost.PRICES
    )
    assert spot == pytest.approx(plain * cost.PRICES.spot_share_of_on_demand)


def test_a_size_without_a_price_is_named() -> None:
    with pytest.raises(CloudError, match=r"cloud/prices.yaml: airflow.environment: has no price for mw9.tiny: add it"):
        cost.at_rest(sizes(airflow={"environment_class": "mw9.tiny"}), cost.PRICES)


def test_every_environment_has_prices_for_all_its_sizes() -> None:
    estimates = [cost.estimate(name) for name in NAMES]
    dev, staging, prod = (found.monthly for found in estimates)
    assert 0 < dev < staging < prod
    types = {
        kind
        for name in NAMES
        for pool in ("system", "cpu", "gpu")
        for kind in (cost.read_sizes(ROOT / f"terraform/environments/{name}/main.tf")["cluster"][pool] or {}).get(
            "instance_types", []
        )
    }
    assert types <= set(cost.PRICES.nodes)


def test_the_budget_of_every_environment_is_above_its_price_at_rest() -> None:
    for name in NAMES:
        limit = cost.read_sizes(ROOT / f"terraform/environments/{name}/main.tf")["budget"]["monthly_limit_usd"]
        assert limit > cost.estimate(name).monthly


@pytest.mark.parametrize(
    ("text", "message"),
    [("module {", "is not Terraform code"), ('module "other" {}', 'has no module "platform"')],
)
def test_a_folder_that_is_not_an_environment_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "main.tf"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CloudError, match=message):
        cost.read_sizes(path)
    with pytest.raises(CloudError, match="cannot be read"):
        cost.read_sizes(tmp_path / "none.tf")
