"""What the local platform puts into this API before anything else runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from local.platform.alarms import endpoints, rollback_alarm_names
from local.platform.aws import seed, seed_alarms
from local.platform.facts import Facts, Secrets
from local.platform.home import Home


def test_the_rollback_alarms_of_every_dataset_are_made_once(stage: Any, tmp_path: Path) -> None:
    facts = Facts(Home(tmp_path), {"aws": stage.aws.port}, Secrets.generate())
    cloudwatch = stage.aws.client("cloudwatch")
    seed(facts)
    names = [name for endpoint in endpoints().values() for name in rollback_alarm_names(endpoint)]
    found = cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"]
    assert sorted(alarm["AlarmName"] for alarm in found) == sorted(names)
    latency = next(alarm for alarm in found if alarm["AlarmName"] == "iris-rollback-latency")
    assert (latency["ExtendedStatistic"], latency["Threshold"], latency["Period"]) == ("p99", 500_000, 60)
    assert latency["EvaluateLowSampleCountPercentile"] == "ignore"
    # A second time, as for a dataset that is new, only what is missing is made.
    cloudwatch.delete_alarms(AlarmNames=[names[1]])
    before = cloudwatch.describe_alarms(AlarmNames=[names[0]])["MetricAlarms"][0]["AlarmConfigurationUpdatedTimestamp"]
    seed_alarms(facts)
    after = cloudwatch.describe_alarms(AlarmNames=[names[0]])["MetricAlarms"][0]["AlarmConfigurationUpdatedTimestamp"]
    assert before == after
    assert cloudwatch.describe_alarms(AlarmNames=[names[1]])["MetricAlarms"]
