"""`make demo`: the whole story on this machine, from files landing to production and back."""

from __future__ import annotations

from rich.console import Console

from local.datasets import Dataset
from local.pipeline import demo_steps, driver, summary
from local.pipeline.attached import AttachedPlatform
from local.pipeline.demo_steps import DemoFailed, Stage

STORY = (
    demo_steps.first_model,
    demo_steps.better_model,
    demo_steps.other_model,
    demo_steps.bad_canary,
    demo_steps.step_back,
)


def tell(
    platform: AttachedPlatform, console: Console, dataset: Dataset, family: str | None = None, length: int = len(STORY)
) -> None:
    """Play act after act, and print what came of them.

    Args:
        platform: that runs.
        console: to print on.
        dataset: what to train on.
        family: of models; None takes the platform's default.
        length: how many acts, from the first.

    Raises:
        DemoFailed: a run failed that should not, or the live model is not the one that was decided on.
    """
    stage = Stage(platform, console, dataset, family)
    for act in STORY[:length]:
        act(stage)
    console.print()
    console.rule("Summary")
    metric = platform.read_json(f"{stage.runs[0].prefix}/config.json")["model"]["metric"]
    console.print(summary.steps_table(stage.runs[-1]))
    for run in stage.runs:
        console.print(summary.trials_table(run, metric))
        console.print(summary.decision_text(run))
        console.print()
    if stage.deployments:
        console.print(summary.deployments_table(stage.deployments))
    console.print(summary.audit_table(driver.audit_log(platform, stage.name)))
    _what_is_live(stage)
    console.print(f"\nAirflow   {platform.addresses['airflow']}")
    console.print(f"MLflow    {platform.addresses['mlflow']}")
    console.print(
        "\nThe platform stays up for you to look at. `make local-status` shows it, `make local-down` stops it."
    )


def _what_is_live(stage: Stage) -> None:
    live = [deployment.result for deployment in stage.deployments if deployment.result]
    if not live:
        stage.console.print("Nothing is live: the gate let no model pass.")
        return
    endpoint = live[-1]["endpoint_name"]
    described = stage.platform.sagemaker.describe_endpoint(EndpointName=endpoint)
    predictions, reply = driver.predict_held_out(stage.platform, stage.runs[-1], endpoint, count=8)
    stage.console.print(summary.predictions_table(predictions, reply.get("classes")))
    version, champion = str(reply["model"]["version"]), stage.version("champion")
    stage.console.print(
        f"\nLive: {stage.registered_model} version {version} on endpoint {endpoint} "
        f"({described['EndpointStatus']}, configuration {described['EndpointConfigName']})"
    )
    if version != champion:
        raise DemoFailed(f"the endpoint answers with version {version}, but champion is {champion}")
