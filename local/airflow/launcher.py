"""Start Airflow's processes from one that has loaded Airflow already (Linux).

Importing Airflow and the operators that tasks use takes seconds of CPU time, and each of Airflow's five
processes would do it for itself; worse, so would every task, as LocalExecutor's workers are forks of the
scheduler and tasks are forks of workers. Here it is done once: this process imports it all, then forks for
every command it is sent. What the parent has loaded, its children have too, in memory they share.
This project's own code is left out: an edit should reach the next task.

Protocol, JSON lines over the socket whose file descriptor is the only argument:
``{"argv": ["scheduler"], "log": "/path"}`` starts ``airflow scheduler`` and is answered ``{"pid": 123}``. The
child leads its own session and belongs to whoever adopts orphans here (the supervisor, a subreaper).
The first line is ours: ``{"ready": true}``. End of file ends this process, not its children.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import socket
import sys
import traceback

_MODULES = (
    "airflow.__main__",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.triggerer_job_runner",
    "airflow.jobs.dag_processor_job_runner",
    "airflow.dag_processing.manager",
    "airflow.executors.local_executor",
    "airflow.providers.cncf.kubernetes.operators.job",
    "airflow.providers.cncf.kubernetes.operators.pod",
    "airflow.providers.cncf.kubernetes.triggers.job",
    "airflow.providers.cncf.kubernetes.triggers.pod",
    "airflow.providers.amazon.aws.sensors.s3",
    "airflow.providers.amazon.aws.triggers.s3",
    "airflow.providers.standard.decorators.branch_python",
    "airflow.providers.standard.operators.empty",
    "airflow.providers.standard.operators.hitl",
    "airflow.providers.standard.operators.python",
    "airflow.providers.standard.operators.trigger_dagrun",
    "mlflow",
    "yaml",
)


def preload() -> None:
    """Load what Airflow's processes and most tasks need. No thread, no open connection: we are going to fork."""
    for module in _MODULES:
        importlib.import_module(module)
    from airflow.configuration import write_default_airflow_configuration_if_needed

    write_default_airflow_configuration_if_needed()  # once, and not by several children at the same time
    import boto3

    # Creating a client loads modules and, into the default session, the description of the service's API.
    boto3.client("s3")
    boto3.client("sns")
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    S3Hook().get_conn()  # fills the caches of `inspect`, which the hook asks for its caller; sends nothing
    gc.collect()
    gc.freeze()  # the garbage collector's marks would unshare the memory


def start(log: str) -> int | None:
    """Fork twice, so that the child is an orphan. Returns its process id, and in the child None."""
    answer, question = os.pipe()
    middle = os.fork()
    if middle == 0:
        child = os.fork()
        if child != 0:
            os.write(question, str(child).encode())
            os._exit(0)
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        for descriptor in (answer, question, output, nothing):
            os.close(descriptor)
        return None
    os.close(question)
    os.waitpid(middle, 0)
    pid = int(os.read(answer, 32))
    os.close(answer)
    return pid


def serve(control: socket.socket) -> list[str] | None:
    """Answer requests until the other side closes; in a child, return the command it is to run."""
    with control.makefile("rw", encoding="utf-8") as lines:
        print(json.dumps({"ready": True}), file=lines, flush=True)
        for line in lines:
            request = json.loads(line)
            pid = start(request["log"])
            if pid is None:
                argv: list[str] = request["argv"]
                return argv
            print(json.dumps({"pid": pid}), file=lines, flush=True)
    return None


def main() -> None:
    """Preload, serve, and in a child run the command."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    preload()
    argv = serve(control)
    control.close()
    if argv is None:
        return
    from airflow.__main__ import main as airflow
    from setproctitle import setproctitle

    setproctitle(f"airflow {' '.join(argv)}")  # else `ps` shows this script
    sys.argv = ["airflow", *argv]
    code: object = 0
    try:
        airflow()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    # Taking all modules down one by one takes seconds in which nothing is achieved.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1 if code else 0)


if __name__ == "__main__":
    main()
