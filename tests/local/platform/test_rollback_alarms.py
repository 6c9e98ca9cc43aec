"""The local platform's rollback alarms are those of Terraform's module `serving`."""

from __future__ import annotations

import re

from local.platform.alarms import VARIANT, endpoints, rollback_alarm_names, rollback_alarms
from local.platform.home import ROOT, use_dag_library

SERVING = ROOT / "terraform" / "modules" / "serving"


def test_names_metrics_statistics_and_periods_are_terraforms() -> None:
    text = (SERVING / "alarms.tf").read_text()
    entries = re.findall(r'"\$\{dataset\}/(\w+)" = \{.*?metric\s+= "(\w+)".*?statistic\s+= "(\w+)"', text, re.DOTALL)
    made = {alarm["AlarmName"]: alarm for alarm in rollback_alarms("e")}
    assert len(entries) == 4
    assert sorted(made) == rollback_alarm_names("e") == sorted(f"e-rollback-{suffix}" for suffix, _, _ in entries)
    for suffix, metric, statistic in entries:
        alarm = made[f"e-rollback-{suffix}"]
        found = (alarm["MetricName"], alarm.get("Statistic") or alarm["ExtendedStatistic"])
        assert found == (metric, statistic)
        for member, attribute in (
            ("Period", "period"),
            ("EvaluationPeriods", "evaluation_periods"),
            ("DatapointsToAlarm", "datapoints_to_alarm"),
            ("ComparisonOperator", "comparison_operator"),
            ("TreatMissingData", "treat_missing_data"),
            ("Namespace", "namespace"),
        ):
            match = re.search(rf'^  {attribute}\s+= "?([\w/]+)"?', text, re.MULTILINE)
            assert match, attribute
            assert str(alarm[member]) == match[1]
    assert f'variant = "{VARIANT}"' in (SERVING / "main.tf").read_text()


def test_thresholds_are_terraforms_defaults() -> None:
    text = (SERVING / "variables.tf").read_text()
    defaults = {name: float(value) for name, value in re.findall(r"(\w+)\s+= optional\(number, ([\d.]+)\)", text)}
    thresholds = {alarm["AlarmName"]: alarm["Threshold"] for alarm in rollback_alarms("e")}
    assert thresholds == {
        "e-rollback-5xx": defaults["server_error_share"],
        "e-rollback-4xx": defaults["client_error_share"],
        "e-rollback-latency": 1000 * defaults["latency_p99_ms"],
        "e-rollback-overhead": 1000 * defaults["overhead_p99_ms"],
    }


def test_every_dataset_has_an_endpoint_with_the_configured_name() -> None:
    use_dag_library()
    from mlplatform.config import loading

    assert sorted(endpoints()) == loading.model_names(ROOT)
    pattern = re.search(r'^  endpoint_name: "(.+)"', (ROOT / "config" / "base.yaml").read_text(), re.MULTILINE)
    assert pattern
    assert "endpoint_name" not in (ROOT / "config" / "local.yaml").read_text()
    assert all(name == pattern[1].format(dataset=dataset) for dataset, name in endpoints().items())
