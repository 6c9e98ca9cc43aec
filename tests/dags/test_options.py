"""The options that the cloud's Airflow and the local one are given, by Airflow itself."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_every_option_that_is_set_is_one_of_airflows() -> None:
    """Airflow takes what it does not know in silence."""
    from airflow.configuration import conf

    cloud = yaml.safe_load((ROOT / "terraform/modules/airflow/configuration_options.yaml").read_text())
    here = yaml.safe_load((ROOT / "local/airflow/differences.yaml").read_text())
    known = conf.configuration_description
    unknown = [
        option
        for option in {**cloud, **here}
        if option.partition(".")[2] not in known.get(option.partition(".")[0], {}).get("options", {})
    ]
    assert unknown == []
    # What nobody sets in the cloud is Airflow's default there.
    by_mwaa = {"api.workers", "core.load_examples"}
    stated = {
        option: one["there"]
        for option, one in here.items()
        if option not in {*cloud, *by_mwaa} and (one["there"] in ("True", "False") or one["there"].isdigit())
    }
    assert stated
    assert stated == {option: conf.get_default_value(*option.split(".")) for option in stated}
