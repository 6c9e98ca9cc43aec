"""`make demo`: the whole story on this machine, from files landing to a live prediction."""

from __future__ import annotations

import time

from rich.console import Console

from local.datasets import flights
from local.pipeline import story, summary
from local.pipeline.attached import AttachedPlatform

DATASET = "flights"
METRIC = "roc_auc"
MONTH_NAMES = ("January", "February")


class DemoFailed(Exception):
    """The story did not end well; the message has the failing task and its log."""


def tell(platform: AttachedPlatform, console: Console, months: int = len(MONTH_NAMES)) -> None:
    """Land month after month, follow the run that each one starts, and print what came of it.

    Raises:
        DemoFailed: a run failed, or the live model is not the one that was decided on.
    """
    reports = [_one_month(platform, console, month) for month in range(1, months + 1)]
    console.rule("Summary")
    for report in reports:
        console.print(summary.steps_table(report))
        console.print(summary.trials_table(report, METRIC))
        console.print(summary.decision_text(report))
        console.print()
    _what_is_live(platform, console, reports)
    console.print(f"\nAirflow   {platform.addresses['airflow']}")
    console.print(f"MLflow    {platform.addresses['mlflow']}")
    console.print(
        "\nThe platform stays up for you to look at. `make local-status` shows it, `make local-down` stops it."
    )


def _one_month(platform: AttachedPlatform, console: Console, month: int) -> story.RunReport:
    name = MONTH_NAMES[month - 1]
    run_id = story.unique_run_id(f"demo-2013-{month:02d}")
    console.rule(f"{name} 2013")
    story.trigger(platform, run_id, dataset=DATASET)
    console.print(f"Run {run_id} waits for data …")
    story.wait_until_waiting(platform, run_id)
    keys = flights.land(month, platform.s3, platform.landing)
    started = time.monotonic()
    console.print(f"{name} lands in s3://{platform.landing}: " + ", ".join(keys.values()))
    report = story.follow(platform, run_id, on_change=summary.ProgressLines(console, started))
    if report.state != "success":
        raise DemoFailed(_explain(platform, report))
    console.print(f"From landed to decided and live: {time.monotonic() - started:.0f} s")
    return report


def _what_is_live(platform: AttachedPlatform, console: Console, reports: list[story.RunReport]) -> None:
    deployments = [report.deployment for report in reports if report.deployment]
    if not deployments:
        console.print("Nothing is live: the gate let no model pass.")
        return
    endpoint = deployments[-1]["endpoint_name"]
    live = platform.sagemaker.describe_endpoint(EndpointName=endpoint)
    predictions, answered = story.predict_held_out_flights(platform, reports[-1], endpoint, count=8)
    console.print(summary.predictions_table(predictions))
    model = platform.read_json(f"{reports[-1].prefix}/config.json")["model"]["registered_model"]
    champion = platform.registry.get_model_version_by_alias(model, "champion")
    console.print(
        f"\nLive: {model} version {answered['version']} on endpoint {endpoint} "
        f"({live['EndpointStatus']}, configuration {live['EndpointConfigName']})"
    )
    if str(answered["version"]) != str(champion.version):
        raise DemoFailed(f"the endpoint answers with version {answered['version']}, but champion is {champion.version}")


def _explain(platform: AttachedPlatform, report: story.RunReport) -> str:
    parts = [f"run {report.run_id} ended as {report.state}"]
    for task in report.failed_tasks:
        log = platform.airflow.log_of(story.DAG, report.run_id, task)
        parts.append(f"--- task {task.label} failed; its log:\n{log}")
    return "\n".join(parts)
