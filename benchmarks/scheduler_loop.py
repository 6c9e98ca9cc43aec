"""Times the scheduler's loop with the DAGs of a bundle active: `python -m benchmarks.scheduler_loop BUNDLE LOOPS`.

Airflow's own scheduler runs, on the database that the environment names, which is made here. First nothing runs; then
each dataset has a training that waits for data, its task deferred as to a triggerer. What is timed is
`SchedulerJobRunner._do_scheduling`, all of the loop that grows with DAGs and runs; the rest is heartbeats and sleep.
Prints a JSON object for each. Runs in Airflow's environment.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

WARM_UP = 3
"""Loops that do not count: the first ones load what later ones have."""
BUNDLE_NAME = "benchmark"
WAITS_IN = "ingest.wait_for_data"


@dataclass(frozen=True)
class Loops:
    """What a loop took in the scheduler's process; wall time includes the database's work, and other work's."""

    dags: int
    running: int
    cpu_ms: float
    wall_ms: float
    slowest_wall_ms: float


def summarize(dags: int, running: int, cpu: list[float], wall: list[float]) -> Loops:
    """Return the medians of the loops after the first ones, from seconds."""
    cpu, wall = cpu[WARM_UP:], wall[WARM_UP:]
    return Loops(
        dags, running, 1000 * statistics.median(cpu), 1000 * statistics.median(wall), 1000 * max(wall, default=0)
    )


def sync(bundle: Path) -> list[str]:
    """Write a bundle's DAGs into the database as the DAG processor does, all active, and return their ids."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    DagBundlesManager().sync_bundles_to_db()
    bag = BundleDagBag(str(bundle), bundle_path=bundle, bundle_name=BUNDLE_NAME)
    if bag.import_errors:
        raise RuntimeError(str(bag.import_errors))
    sync_bag_to_db(bag, BUNDLE_NAME, None)
    with create_session() as session:
        session.execute(update(DagModel).values(is_paused=False))
    return sorted(bag.dags)


def begin_runs(dag_ids: list[str]) -> None:
    """Let a run of each DAG wait for data."""
    from airflow.models.dagbag import DBDagBag
    from airflow.utils import timezone
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    with create_session() as session:
        stored = DBDagBag()
        for dag_id in dag_ids:
            dag = stored.get_latest_version_of_dag(dag_id, session=session)
            assert dag is not None
            run = dag.create_dagrun(
                run_id="waits",
                run_after=timezone.utcnow(),
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.TEST,
                state=DagRunState.RUNNING,
                start_date=timezone.utcnow(),
                session=session,
            )
            (task,) = (ti for ti in run.task_instances if ti.task_id == WAITS_IN)
            task.state = TaskInstanceState.DEFERRED


def check_waiting(count: int) -> None:
    """Make sure that what was timed is what was meant: so many runs still wait.

    Raises:
        RuntimeError: something happened to one of them.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy import func, select

    waits = (TaskInstance.task_id == WAITS_IN) & (TaskInstance.state == TaskInstanceState.DEFERRED)
    with create_session() as session:
        found = session.scalar(select(func.count()).select_from(TaskInstance).where(waits))
    if found != count:
        raise RuntimeError(f"{found} of {count} runs wait")


def run_loops(count: int) -> tuple[list[float], list[float]]:
    """Run the scheduler for so many loops, and return each one's seconds: its process's, and those on the wall."""
    from airflow.jobs.job import Job, run_job
    from airflow.jobs.scheduler_job_runner import SchedulerJobRunner

    cpu: list[float] = []
    wall: list[float] = []

    class Timed(SchedulerJobRunner):
        def _do_scheduling(self, session: Any) -> int:
            cpu_began, wall_began = time.process_time(), time.perf_counter()
            queued = super()._do_scheduling(session)
            cpu.append(time.process_time() - cpu_began)
            wall.append(time.perf_counter() - wall_began)
            return queued

    runner = Timed(job=Job(), num_runs=count + WARM_UP)
    run_job(job=runner.job, execute_callable=runner._execute)
    return cpu, wall


def main() -> None:
    """Measure and print."""
    bundle, count = Path(sys.argv[1]), int(sys.argv[2])
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, stdout=sys.stderr)
    dag_ids = sync(bundle)
    print(json.dumps(asdict(summarize(len(dag_ids), 0, *run_loops(count)))), flush=True)
    trainings = [dag_id for dag_id in dag_ids if dag_id.startswith("train__")]
    begin_runs(trainings)
    print(json.dumps(asdict(summarize(len(dag_ids), len(trainings), *run_loops(count)))), flush=True)
    check_waiting(len(trainings))


if __name__ == "__main__":
    main()
