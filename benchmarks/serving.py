"""Our server against MLflow, BentoML and the least a server can do: `python -m benchmarks.serving`.

All serve the same XGBoost model of 17 features (100 trees) and get the same rows: one as a record by names
(`dataframe_records`), many as a table (`dataframe_split`), or CSV where they can. Their answers must agree within 1e-5
before anything is measured. All run at once and are asked in turns, in several short rounds, by a process of its own
(`benchmarks.serving_load`). The floor gets categories as numbers, reads them into an array, and checks nothing; it is
there with each native engine, and the faster counts. `--swap` asks an endpoint of the local SageMaker instead, while a
new model takes its place.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import machine, serving_swap
from benchmarks.serving_environment import (
    ENVS,
    ROOT,
    BenchmarkError,
    clean_environment,
    install_others,
    make_model,
    run_python,
    say,
    tree_mib,
)
from benchmarks.serving_http import Requests, exchange, make_requests, predictions_of
from benchmarks.serving_table import BY_HAND, FLOOR, OURS, Case, Process, Round, Rounds, ratios, render

TOLERANCE = 1e-5
START_SECONDS = 180.0


@dataclass(frozen=True)
class Contender:
    """How to start a server, and what it is asked."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    requests: Requests


class Server:
    """A contender's processes."""

    def __init__(self, contender: Contender, folder: Path) -> None:
        self.contender = contender
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        port = str(self.port)
        environment = {**clean_environment(), **contender.environment, "SAGEMAKER_BIND_TO_PORT": port}
        self._log = folder / f"{contender.name}.log"
        began = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [part.replace("PORT", port) for part in contender.command],
                env=environment,
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._wait(began + START_SECONDS)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - began

    def _wait(self, deadline: float) -> None:
        request = next(iter(self.contender.requests.values()))
        problem = "no connection"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise BenchmarkError(f"{self.contender.name} ended with {self._process.returncode}: {self.log_end()}")
            try:
                status, body = exchange(self.port, request)
            except OSError:
                time.sleep(0.02)
                continue
            if status == 200:
                return
            problem = f"{status} {body[:500]!r}"
            time.sleep(0.02)
        raise BenchmarkError(f"{self.contender.name} gave no answer in {START_SECONDS:.0f} s: {problem}")

    def log_end(self) -> str:
        """Return the end of what it wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-1500:]

    @property
    def memory(self) -> float:
        """MiB of all its processes; what n of them share is counted once (PSS)."""
        return tree_mib(self._process.pid)

    def stop(self) -> None:
        """End it, kindly first."""
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [*psutil.Process(self._process.pid).children(recursive=True)]
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


def check_agreement(servers: Sequence[Server]) -> None:
    """Check that all answer the same to everything.

    Raises:
        BenchmarkError: they do not.
    """
    expected: dict[int, list[float]] = {}
    for server in servers:
        for (rows, kind), request in server.contender.requests.items():
            status, body = exchange(server.port, request)
            where = f"{server.contender.name}, {rows} rows, {kind}"
            if status != 200:
                raise BenchmarkError(f"{where}: answered {status}: {body[:500]!r}")
            found = predictions_of(body)
            wanted = expected.setdefault(rows, found)
            # Written so that a prediction that is no number does not agree with anything.
            if len(found) != rows or not all(abs(a - b) <= TOLERANCE for a, b in zip(found, wanted, strict=True)):
                raise BenchmarkError(f"{where}: other predictions than {servers[0].contender.name}")


def contenders(folder: Path, content: Mapping[str, Any]) -> list[Contender]:
    """Return all that can be measured here."""
    run_python("bench-serving", {"PYTHONPATH": str(ROOT)}, str(ROOT / "benchmarks/serving_by_hand.py"),
               str(folder / "model"), str(folder))  # fmt: skip
    names, bench, model = content["names"], ENVS / "bench-serving/bin", str(folder / "model")
    serving = str(ENVS / "serving/bin/python")
    usual = make_requests(names, content["rows"], "JSON", "CSV")
    json_only = make_requests(names, content["rows"], "JSON")
    numbers = make_requests(names, content["codes"], "JSON")
    ours = {"PYTHONPATH": str(ROOT / "containers/serving/src"), "SM_MODEL_DIR": model}
    by_hand = {"PYTHONPATH": str(ROOT), "PATH": f"{bench}{os.pathsep}{os.environ['PATH']}"}
    bento = {"BENCH_MODEL": model, "BENTOML_HOME": str(folder / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    command = (serving, "-m", "serving", "serve")
    found = [Contender(OURS, command, {**ours, "SERVING_WORKERS": "1"}, usual)]
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers > 1:
        found.append(Contender(f"{OURS}, {workers} workers", command, ours, usual))
    # As MLflow saves it, a booster takes numbers; the conversion of categories is left to whoever asks.
    for name, saved, asked in (("MLflow", "mlflow", numbers), (BY_HAND, "mlflow-by-hand", usual)):
        found.append(
            Contender(
                name,
                (f"{bench}/mlflow", "models", "serve", "--model-uri", f"{folder}/{saved}", "--env-manager", "local",
                 "--host", "127.0.0.1", "--port", "PORT", "--workers", "1"),
                {**by_hand, "MLFLOW_DISABLE_TELEMETRY": "true"},
                asked,
            )
        )  # fmt: skip
    found.append(
        Contender(
            "BentoML",
            (f"{bench}/bentoml", "serve", "benchmarks.serving_bentoml:Service", "--working-dir", str(ROOT),
             "--host", "127.0.0.1", "--port", "PORT"),
            {**by_hand, **bento},
            json_only,
        )
    )  # fmt: skip
    files = (folder / "model.onnx", folder / "model/model.ubj")
    for name, file in zip(FLOOR, files, strict=True):
        if file.exists():
            uvicorn = (serving, "-m", "uvicorn", "benchmarks.serving_floor:app", "--host", "127.0.0.1", "--port",
                       "PORT", "--loop", "uvloop", "--http", "httptools", "--lifespan", "off", "--no-access-log",
                       "--log-level", "warning")  # fmt: skip
            found.append(Contender(name, uvicorn, {"PYTHONPATH": str(ROOT), "BENCH_MODEL": str(file)}, numbers))
    return found


def ask(port: int, request: bytes, folder: Path, clients: int, seconds: float) -> Round:
    """Let the load generator ask; return what it saw.

    Raises:
        BenchmarkError: a request failed.
    """
    file = folder / "request"
    file.write_bytes(request)
    output = run_python("serving", {"PYTHONPATH": str(ROOT)}, "-m", "benchmarks.serving_load", str(port), str(file),
                        "--clients", str(clients), "--seconds", str(seconds))  # fmt: skip
    seen = json.loads(output)
    if seen["failed"]:
        raise BenchmarkError(f"{seen['failed']} requests failed: {seen['first_failure']}")
    if not seen["requests"]:
        raise BenchmarkError(f"no request was answered in {seconds:g} s: measure with more --seconds")
    return Round(seen["rate"], seen["p50"], seen["p99"], seen["busy"])


def measure(servers: Sequence[Server], folder: Path, clients: Sequence[int], rounds: int, seconds: float) -> Rounds:
    """Ask all in turns, in another order each round."""
    seen: dict[tuple[Case, str], list[Round]] = {}
    kinds = sorted({kind for server in servers for kind in server.contender.requests})
    order = random.Random(1)
    for number in range(rounds):
        for rows, kind in kinds:
            for count in clients:
                for server in order.sample(servers, len(servers)):
                    request = server.contender.requests.get((rows, kind))
                    if request is None:
                        continue
                    name = server.contender.name
                    try:
                        one = ask(server.port, request, folder, count, seconds)
                    except BenchmarkError as error:
                        raise BenchmarkError(f"{name}, {rows} rows, {kind}, {count} clients: {error}") from None
                    seen.setdefault((Case(rows, kind, count), name), []).append(one)
                    say(f"round {number + 1}: {rows} rows, {kind}, {count} clients, {name}: {one.rate:,.0f}/s")
    return seen


def run(clients: Sequence[int], rounds: int, seconds: float, starts: int) -> tuple[Rounds, dict[str, Process]]:
    """Make everything, measure everything, end everything."""
    install_others()
    with tempfile.TemporaryDirectory(prefix="mlp-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        say("making the model")
        found = contenders(folder, make_model(folder))
        begun: dict[str, list[float]] = {}
        for _ in range(starts - 1):
            for contender in found:
                server = Server(contender, folder)
                begun.setdefault(contender.name, []).append(server.start_seconds)
                server.stop()
        servers = []
        for contender in found:
            say(f"starting {contender.name}")
            servers.append(Server(contender, folder))
            stack.callback(servers[-1].stop)
            begun.setdefault(contender.name, []).append(servers[-1].start_seconds)
        exact = [server for server in servers if server.contender.name != FLOOR[0]]
        check_agreement(exact)
        for server in [server for server in servers if server not in exact]:
            try:
                check_agreement([exact[0], server])
            except BenchmarkError as error:
                say(f"left out, the conversion is not exact: {error}")
                servers.remove(server)
        seen = measure(servers, folder, clients, rounds, seconds)
        processes = {
            name: Process(statistics.median(begun[name]), server.memory)
            for server in servers
            for name in (server.contender.name,)
        }
        return seen, processes


@contextlib.contextmanager
def ending_kindly() -> Iterator[None]:
    """Let SIGTERM end this process the way Ctrl-C does: with everything it started."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round of each contender")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--quick", action="store_true", help="one round of a second, 8 clients: a smoke try")
    parser.add_argument("--swap", nargs="?", type=float, const=600.0, metavar="SECONDS",
                        help="ask an endpoint for so long (600) while its model is replaced")  # fmt: skip
    parser.add_argument("--json", type=Path, help="also write every round's numbers into this file")
    options = parser.parse_args(argv)
    if options.rounds < 1 or options.seconds <= 0 or min(options.clients) < 1:
        parser.error("--rounds and --clients must be at least 1, --seconds more than 0")
    if options.swap is not None and options.swap < 10:
        parser.error("--swap: at least 10 seconds, or the new model has no time to start")
    try:
        with ending_kindly():
            if options.swap is not None:
                return serving_swap.run(options.swap)
            if options.quick:
                seen, processes = run([8], 1, 1.0, 1)
            else:
                seen, processes = run(options.clients, options.rounds, options.seconds, 3)
    except BenchmarkError as error:
        print(f"serving: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("serving: stopped", file=sys.stderr)
        return 130
    print(f"{machine.describe()}\n\n{render(seen, processes)}\n")
    print("\n".join(["One worker of ours against one of theirs, medians of the rounds' ratios of JSON requests/s:", "",
                     *ratios(seen)]))  # fmt: skip
    if options.json:
        rounds = [{**asdict(case), "contender": name, "rounds": list(map(asdict, each))}
                  for (case, name), each in seen.items()]  # fmt: skip
        costs = {name: asdict(one) for name, one in processes.items()}
        options.json.write_text(json.dumps({"rounds": rounds, "processes": costs}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
