"""The command line of the local platform: up, down, status, logs, env."""

from __future__ import annotations

import contextlib
import fcntl
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from local.platform import control
from local.platform.home import HOME_VARIABLE, Home, PlatformError
from local.platform.processes import tail, wait_until_gone
from local.platform.state import UP, PlatformState, ProcessId, ServiceState, read_state

app = typer.Typer(
    name="local",
    help="The whole ML platform on this machine: PostgreSQL, S3 and SageMaker, Kubernetes, MLflow, Airflow. "
    "No Docker, no cloud account; nothing listens on any address but 127.0.0.1.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

HomeOption = Annotated[
    Path | None,
    typer.Option(
        "--home",
        help="Folder of this platform's files. Each home is a platform of its own; several can run side by side.",
        envvar=HOME_VARIABLE,
        show_default=".local/platform",
        file_okay=False,
    ),
]

_COLOURS = {"healthy": "green", "done": "green", "starting": "yellow", "failed": "red", "crashed": "red"}


@app.command()
def up(
    home: HomeOption = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay until Ctrl-C, then stop everything.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew even if a healthy platform runs.")] = False,
) -> None:
    """Start the platform and wait until all of it is healthy.

    A healthy platform that runs already is kept: its DAG links, configuration, pools and images are brought up
    to date. So is one whose DAGs alone are not as they should be: a mistake in the project's files, or a dataset
    that is new. A broken one is replaced. A start begins empty: data, runs and models of the last one are gone
    (S3 is in memory); only its logs are kept, in logs/previous.
    """
    place = Home.resolve(home)
    with _errors(), _signals_interrupt():
        place.claim()
        with _one_at_a_time(place):
            identity = _adopt_or_start(place, fresh=fresh)
        if foreground:
            _stay(place, identity)


@app.command()
def down(home: HomeOption = None) -> None:
    """Stop the platform: no process and no open port is left, even if its supervisor was killed."""
    place = Home.resolve(home)
    with _errors():
        state = read_state(place.state_file)
        running = control.supervisor(place) is not None
        if running:
            out.print(f"stopping the platform in {escape(str(place.root))} ...")
        begun = time.monotonic()
        strays = control.stop(place)
        if running:
            out.print(f"[green]stopped[/] in {time.monotonic() - begun:.1f} s")
        elif strays:
            out.print(f"[green]stopped[/] {strays} processes whose supervisor was gone")
        else:
            out.print("not running" if state is None or state.phase == "stopped" else "not running any more")


@app.command()
def status(
    home: HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Show every service and its address. Exits with 1 when anything is down."""
    place = Home.resolve(home)
    with _errors():
        report = control.inspect(place)
        if as_json:
            print(report.model_dump_json(indent=2))
        else:
            _print_report(report)
        if not report.up:
            raise typer.Exit(1)


@app.command()
def logs(
    service: Annotated[str | None, typer.Argument(help="A service, or `supervisor`; all of them if left out.")] = None,
    home: HomeOption = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on printing what is added.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="Lines to print of each log.")] = 20,
) -> None:
    """Print the end of the services' logs."""
    place = Home.resolve(home)
    with _errors():
        available = {path.stem: path for path in sorted(place.logs.glob("*.log"))}
        if not available:
            raise PlatformError(f"there are no logs in {place.logs}: start the platform with `up` first")
        if service is not None and service not in available:
            raise PlatformError(f"there is no log of {service!r}: choose from {', '.join(available)}")
        chosen = {service: available[service]} if service else available
        with contextlib.suppress(KeyboardInterrupt):
            _print_logs(chosen, lines, follow)


@app.command(name="env")
def print_environment(home: HomeOption = None) -> None:
    """Print `export` lines for aws, kubectl and mlflow: eval "$(python -m local env)"."""
    place = Home.resolve(home)
    with _errors():
        state = read_state(place.state_file)
        if state is None or control.supervisor(place) is None:
            raise PlatformError(f"no platform runs in {place.root}: start it with `up` first")
        for name, value in control.client_environment(control.load_facts(place, state)).items():
            print(f"export {name}={shlex.quote(value)}")


@app.command(hidden=True)
def supervise(home: HomeOption = None) -> None:
    """Run the supervisor in this process (what `up` starts)."""
    from local.platform.supervisor import supervise as run

    with _errors():
        raise typer.Exit(run(Home.resolve(home)))


# --- up -------------------------------------------------------------------------------------------


def _adopt_or_start(place: Home, *, fresh: bool) -> ProcessId:
    identity = control.supervisor(place)
    if identity is not None and not fresh:
        state = read_state(place.state_file)
        if state is None or state.phase == "starting":
            out.print("a start is under way already; waiting for it")
            return _follow(place, identity)
        report = control.inspect(place)
        if report.keeps_running:
            assert report.state is not None
            control.refresh(place, report.state)
            out.print("the platform is up already; DAGs, configuration and images are brought up to date")
            if not report.up:
                report = control.read_dags(place, report.state)
            _print_report(report)
            if not report.up:
                raise typer.Exit(1)
            return identity
        out.print(f"the platform that runs is {escape(report.summary)}; replacing it")
    control.stop(place)
    identity = control.launch(place)
    return _follow(place, identity)


def _follow(place: Home, identity: ProcessId) -> ProcessId:
    """Show the progress of a start; on Ctrl-C and on failure nothing is left running."""
    last: PlatformState | None = None
    try:
        with _progress() as show:
            for state in control.follow(place, identity):
                last = state or last
                if last is not None:
                    show(last)
    except KeyboardInterrupt:
        err.print("[yellow]interrupted[/]; stopping what was started ...")
        control.stop(place)
        wait_until_gone(identity, 5)
        err.print("stopped")
        raise typer.Exit(130) from None
    if last is None or last.phase != "running":
        control.stop(place)
        reason, log = control.failure(place, last)
        err.print(f"[red]the platform did not start:[/] {escape(reason)}")
        if log:
            err.print(f"\nThe end of {escape(log)}")
        raise typer.Exit(1)
    out.print(f"[green]everything is healthy[/] after {last.healthy_after:.1f} s\n")
    _print_addresses(last)
    return identity


def _stay(place: Home, identity: ProcessId) -> None:
    out.print("\nCtrl-C stops everything.")
    try:
        while wait_until_gone(identity, 1) is False:
            state = read_state(place.state_file)
            if state is not None and state.broken:
                reason, log = control.failure(place, state)
                err.print(f"[red]{escape(reason)}[/]\n\nThe end of {escape(log)}")
                control.stop(place)
                raise typer.Exit(1)
    except KeyboardInterrupt:
        out.print("stopping ...")
        control.stop(place)
    out.print("stopped")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[PlatformState], None]]:
    """Give a function that shows a state: a live table on a terminal, a line per change elsewhere."""
    if out.is_terminal:
        with Live(console=out, refresh_per_second=8, transient=True) as live:
            yield lambda state: live.update(_table(state))
        return
    seen: dict[str, str] = {}

    def show(state: PlatformState) -> None:
        for name, service in state.services.items():
            if service.state != "waiting" and seen.get(name) != service.state:
                seen[name] = service.state
                ready = service.state in UP and service.took is not None
                took = f" in {service.took:.1f} s" if ready else ""
                out.print(f"{name}: {service.state}{took}")

    yield show


def _table(state: PlatformState, problems: dict[str, str] | None = None) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    for heading in ("SERVICE", "STATE", "TIME", "PORT", "PID", ""):
        number = heading in ("TIME", "PORT", "PID")
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for name, service in state.services.items():
        problem = (problems or {}).get(name)
        shown = "unwell" if problem and service.state in ("healthy", "done") else service.state
        colour = "red" if shown == "unwell" else _COLOURS.get(service.state, "dim")
        table.add_row(
            name,
            f"[{colour}]{shown}[/]",
            _time_of(service),
            str(service.port or ""),
            str(service.process.pid) if service.process and service.state != "done" else "",
            escape(_first_line(problem or service.error or "", out.width - 52)),
        )
    return table


def _first_line(text: str, width: int) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= max(width, 20) else line[: max(width, 20) - 1] + "…"


def _time_of(service: ServiceState) -> str:
    if service.state == "starting":
        return f"{time.time() - service.since:.1f} s"
    return f"{service.took:.1f} s" if service.took is not None else ""


# --- Output ---------------------------------------------------------------------------------------


def _print_report(report: control.Report) -> None:
    colour = "green" if report.up else "red"
    out.print(f"platform in {escape(report.home)}: [{colour}]{escape(report.summary)}[/]")
    if report.state is None:
        return
    out.print()
    out.print(_table(report.state, report.problems))
    for name, problem in report.problems.items():
        out.print(f"\n[red]{name}[/]: {escape(problem)}")
        end = tail(Path(report.state.services[name].log), 15)
        if end:
            out.print(f"[dim]The end of {escape(report.state.services[name].log)}:[/]\n{escape(end)}")
    if report.up:
        out.print()
        _print_addresses(report.state)


def _print_addresses(state: PlatformState) -> None:
    addresses = state.addresses
    out.print(f"Airflow     {addresses['airflow']}  (no login)")
    out.print(f"MLflow      {addresses['mlflow']}")
    out.print(f"AWS API     {addresses['aws']}")
    out.print(f"Kubernetes  {addresses['kubernetes']}  KUBECONFIG={escape(addresses['kubeconfig'])}")
    out.print('Clients     eval "$(python -m local env)"  then aws, kubectl, mlflow')


def _print_logs(chosen: dict[str, Path], lines: int, follow: bool) -> None:
    several = len(chosen) > 1
    offsets: dict[str, int] = {}
    for name, path in chosen.items():
        offsets[name] = path.stat().st_size
        text = tail(path, lines) if lines else ""
        if several:
            out.print(f"[bold]==> {name} <==[/]")
        if text:
            print(text)
    sys.stdout.flush()
    previous = None
    while follow:
        time.sleep(0.3)
        for name, path in chosen.items():
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                if path.stat().st_size < offsets[name]:
                    offsets[name] = 0  # a new platform's log
                file.seek(offsets[name])
                added = file.read()
                offsets[name] += len(added)
                if added:
                    if several and previous != name:
                        out.print(f"[bold]==> {name} <==[/]")
                        previous = name
                    print(added.decode(errors="replace"), end="", flush=True)


# --- Conventions ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Say what a person can do something about in one line; exit with 1."""
    try:
        yield
    except (PlatformError, RuntimeError) as error:
        if isinstance(error, typer.Exit):
            raise
        err.print(f"[red]error:[/] {escape(str(error))}")
        raise typer.Exit(1) from None


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Treat the end of the terminal and a plain `kill` as Ctrl-C: clean up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    # A shell starts background commands with SIGINT ignored; here it always means stop.
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@contextlib.contextmanager
def _one_at_a_time(place: Home) -> Iterator[None]:
    with place.up_lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            out.print("another `up` is at work here; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
