"""What it costs that DAGs are paused, for people."""

from __future__ import annotations

from collections.abc import Collection

from cloud.datasets import dag_id

UNDELIVERED = "Airflow hands an approval on only to a DAG that is not paused at that moment"
_COSTS = {
    "train": "runs stay queued",
    "deploy": f"a model that is approved meanwhile is not deployed, later neither, as {UNDELIVERED}",
    "rollback": "a step back stays queued",
    "monitor": "nothing watches the live model",
}


def costs(paused: Collection[str], datasets: Collection[str], starting_paused: Collection[str]) -> list[str]:
    """Return a line for each kind of DAG of which some are paused that should not be, with what that costs.

    What starts paused may stay so; but a training that somebody has unpaused wants a deployment that answers.

    Args:
        paused: ids of DAGs.
        datasets: whose DAGs are looked at.
        starting_paused: those of them whose DAGs start paused by the configuration.
    """
    told = []
    for kind, cost in _COSTS.items():
        wrong = [
            dag_id(kind, name)
            for name in datasets
            if dag_id(kind, name) in paused and (name not in starting_paused or _left_behind(kind, name, paused))
        ]
        if wrong:
            told.append(f"{', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} paused: {cost}")
    return told


def _left_behind(kind: str, dataset: str, paused: Collection[str]) -> bool:
    return kind == "deploy" and dag_id("train", dataset) not in paused
