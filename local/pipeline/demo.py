"""`make demo`: the whole story on this machine, from files landing to a live prediction."""

from __future__ import annotations

import time

from rich.console import Console

from local.datasets import Dataset
from local.pipeline import story, summary
from local.pipeline.attached import AttachedPlatform


class DemoFailed(Exception):
    """The story did not end well; the message has the failing task and its log."""


def tell(
    platform: AttachedPlatform, console: Console, dataset: Dataset, family: str | None = None, batches: int = 2
) -> None:
    """Land batch after batch, follow the run that each one starts, and print what came of it.

    Args:
        platform: that runs.
        console: to print on.
        dataset: what to train on.
        family: of models; None takes the platform's default.
        batches: how many of the dataset's batches land, from the first.

    Raises:
        DemoFailed: a run failed, or the live model is not the one that was decided on.
    """
    reports = [_one_batch(platform, console, dataset, batch, family) for batch in range(1, batches + 1)]
    model = platform.read_json(f"{reports[-1].prefix}/config.json")["model"]
    console.rule("Summary")
    for report in reports:
        console.print(summary.steps_table(report))
        console.print(summary.trials_table(report, model["metric"]))
        console.print(summary.decision_text(report))
        console.print()
    _what_is_live(platform, console, reports, model["registered_model"])
    console.print(f"\nAirflow   {platform.addresses['airflow']}")
    console.print(f"MLflow    {platform.addresses['mlflow']}")
    console.print(
        "\nThe platform stays up for you to look at. `make local-status` shows it, `make local-down` stops it."
    )


def _one_batch(
    platform: AttachedPlatform, console: Console, dataset: Dataset, batch: int, family: str | None
) -> story.RunReport:
    name = dataset.BATCHES[batch - 1]
    run_id = story.unique_run_id(f"demo-{dataset.DATASET}-{batch}")
    console.rule(f"{dataset.DATASET}: {name}")
    story.trigger(platform, run_id, dataset=dataset.DATASET, **({"family": family} if family else {}))
    console.print(f"Run {run_id} waits for data …")
    story.wait_until_waiting(platform, run_id)
    keys = dataset.land(batch, platform.s3, platform.landing)
    started = time.monotonic()
    console.print(f"{name} lands in s3://{platform.landing}: " + ", ".join(keys.values()))
    report = story.follow(platform, run_id, on_change=summary.ProgressLines(console, started))
    if report.state != "success":
        raise DemoFailed(_explain(platform, report))
    console.print(f"From landed to decided and live: {time.monotonic() - started:.0f} s")
    return report


def _what_is_live(
    platform: AttachedPlatform, console: Console, reports: list[story.RunReport], registered_model: str
) -> None:
    deployments = [report.deployment for report in reports if report.deployment]
    if not deployments:
        console.print("Nothing is live: the gate let no model pass.")
        return
    endpoint = deployments[-1]["endpoint_name"]
    live = platform.sagemaker.describe_endpoint(EndpointName=endpoint)
    predictions, reply = story.predict_held_out(platform, reports[-1], endpoint, count=8)
    console.print(summary.predictions_table(predictions, reply.get("classes")))
    version = reply["model"]["version"]
    champion = platform.registry.get_model_version_by_alias(registered_model, "champion")
    console.print(
        f"\nLive: {registered_model} version {version} on endpoint {endpoint} "
        f"({live['EndpointStatus']}, configuration {live['EndpointConfigName']})"
    )
    if str(version) != str(champion.version):
        raise DemoFailed(f"the endpoint answers with version {version}, but champion is {champion.version}")


def _explain(platform: AttachedPlatform, report: story.RunReport) -> str:
    parts = [f"run {report.run_id} ended as {report.state}"]
    for task in report.failed_tasks:
        log = platform.airflow.log_of(story.DAG, report.run_id, task)
        parts.append(f"--- task {task.label} failed; its log:\n{log}")
    return "\n".join(parts)
