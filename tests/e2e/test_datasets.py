"""Datasets go the whole way with other model families: several classes, and a number.

The README's demo does it for two classes. All pairs of dataset and family go through the steps in
``tests/containers``; here it is Airflow, pods and endpoints.
"""

from __future__ import annotations

from typing import Any

import pytest

from local import bootstrap, datasets
from local.pipeline import driver, summary
from local.pipeline.attached import AttachedPlatform


@pytest.mark.parametrize(
    ("name", "family", "image"),
    [("iris", "pytorch", "trainer-cuda"), ("housing", "sklearn", "trainer")],
)
def test_a_dataset_goes_from_its_files_to_predictions(
    platform: AttachedPlatform, kubernetes: Any, name: str, family: str, image: str
) -> None:
    if image == "trainer-cuda":
        bootstrap.setup([image])
    dataset = datasets.load(name)
    run_id = driver.unique_run_id(f"{name}-{family}")
    dataset.land(1, platform.s3, platform.landing)
    driver.trigger(platform, name, run_id, family=family, trials=2)
    run = driver.follow(platform, name, run_id)

    assert run.state == "success", [task.label for task in run.failed_tasks]
    assert [trial["status"] for trial in run.trials] == ["succeeded", "succeeded"]
    assert run.decision is not None
    assert run.decision["outcome"] == "promote", run.decision["reasons"]
    pods = kubernetes.pods(run_key=run.run_key, step="train")
    assert len(pods) == 2
    assert run.deployment is not None
    predictions, reply = driver.predict_held_out(platform, run, run.deployment["endpoint_name"], count=10)
    examples = platform.read_json(f"{run.prefix}/evaluate/examples.json")["examples"][: len(predictions)]
    for prediction, example in zip(predictions, examples, strict=True):
        assert prediction.answer == pytest.approx(example["prediction"], rel=1e-4, abs=1e-5)
    assert len(summary.predictions_table(predictions, reply.get("classes")).rows) == len(predictions)
    for step in ("validate", "evaluate"):
        report = f"{run.prefix}/{step}/report.html"
        page = platform.s3.get_object(Bucket=platform.data, Key=report)["Body"].read().decode()
        assert page.startswith("<!doctype html>")
