"""Tasks of ``train__flights``, run in Airflow's environment on a bundle as it came from the bucket.

``python airflow_tasks.py BUNDLE wait|resolve|settle [PREFIX]``; the answer is the last line on stdout.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

PARAMS: dict[str, Any] = {
    "dataset": "flights",
    "family": "xgboost",
    "trials": 1,
    "seed": 0,
    "search": "random",
    "device": "cpu",
    "wait_for_new_data": True,
    "minimum_quality": None,
    "minimum_improvement": None,
}


def wait(bundle: Path) -> str:
    """Do what worker and triggerer do with the sensor: look once, defer, wait for the trigger's event, resume."""
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk.exceptions import TaskDeferred

    bag = DagBag(str(bundle))
    assert bag.import_errors == {}, bag.import_errors
    dag = bag.dags["train__flights"]
    sensor = dag.get_task("ingest.wait_for_data")
    context: Any = {"params": PARAMS, **dag.user_defined_macros}
    sensor.render_template_fields(context)
    sensor._pre_execute_hook({"params": PARAMS})
    print(f"waiting for {sensor.bucket_key}", flush=True)
    try:
        sensor.execute(context)
    except TaskDeferred as deferred:
        trigger = deferred.trigger
        trigger.poke_interval = 0.2  # 30 s otherwise
        print("deferred", flush=True)
        event = asyncio.run(_first(trigger))
        sensor.resume_execution(deferred.method_name, {**(deferred.kwargs or {}), "event": event.payload}, context)
        return f"came: {event.payload['status']}"
    return "was there"


async def _first(trigger: Any) -> Any:
    async for event in trigger.run():
        return event
    raise AssertionError("the trigger ended without an event")


def resolve() -> str:
    """Fix the inputs and claim the run; return its prefix."""
    from mlplatform.config.loading import load_dataset
    from mlplatform.training import inputs

    resolved = inputs.resolve_inputs(
        load_dataset("flights").settings, PARAMS, "train__flights/manual__localstack", lambda owner: False
    )
    print(resolved.message)
    assert resolved.granted
    return resolved.paths.prefix


def settle(prefix: str) -> str:
    """Move what was validated out of the landing bucket."""
    from mlplatform.config.loading import load_dataset
    from mlplatform.training import inputs

    return inputs.settle_landing(load_dataset("flights").settings, prefix)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(folder))
    answers = {"wait": lambda: wait(folder), "resolve": resolve, "settle": lambda: settle(sys.argv[3])}
    print(answers[sys.argv[2]]())
