"""What the live model was asked is captured, and a run of the monitoring reports on it."""

from __future__ import annotations

from typing import Any

from local.pipeline import driver
from local.pipeline.attached import AttachedPlatform
from tests.e2e.support import an_example, eventually, notifications

ROWS = 7
"""Of one request."""


def captured(platform: AttachedPlatform) -> list[str]:
    return [key for key in platform.keys("", platform.data) if key.startswith("capture/") and key.endswith(".jsonl")]


def test_a_monitoring_run_reports_on_what_the_live_model_was_asked(platform: AttachedPlatform) -> None:
    before = captured(platform)
    example = an_example(platform)
    versions: set[str] = set()

    def asked_until_captured() -> bool:
        for _ in range(10):  # only a sample of the requests is captured
            versions.add(str(driver.invoke(platform, "flights", [example] * ROWS)["model"]["version"]))
        return len(captured(platform)) > len(before)

    assert eventually(asked_until_captured), "nothing was captured"
    (version,) = versions

    run_id = driver.unique_run_id("monitoring")
    dag = driver.dag_id("monitor", "flights")
    platform.airflow.trigger(dag, run_id, {})
    state = platform.airflow.wait(dag, run_id, 240)
    tasks = {task.task_id: task for task in platform.airflow.tasks(dag, run_id)}

    assert state == "success", {name: task.state for name, task in tasks.items()}
    # The settings ask for an alarm only.
    assert {name: tasks[name].state for name in ("monitor", "conclude", "want_retraining", "train")} == {
        "monitor": "success",
        "conclude": "success",
        "want_retraining": "skipped",
        "train": "skipped",
    }
    prefix = platform.airflow.xcom(dag, run_id, "choose_window")["output"].removeprefix(f"s3://{platform.data}/")
    result: dict[str, Any] = platform.read_json(f"{prefix}/result.json")
    assert (result["malformed"], result["unattributed"]) == (0, 0), result["malformed_examples"]
    rows = {watched["model_version"]: watched["rows"] for watched in result["versions"]}
    assert rows[version] >= ROWS
    assert result["rows"] == sum(rows.values())
    assert result["verdict"] == platform.airflow.xcom(dag, run_id, "conclude")
    page = platform.s3.get_object(Bucket=platform.data, Key=f"{prefix}/report.html")["Body"].read().decode()
    assert page.startswith("<!doctype html>")
    alarm = result["verdict"]["outcome"] in ("drifted", "degraded")
    assert any("the endpoint flights, " in text and prefix in text for text in notifications(platform)) == alarm
