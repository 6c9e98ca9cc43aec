"""The supervisor: starts the services in order, watches them, and stops them all.

It is one process, detached from the terminal, that every other process of the platform descends from.
It never restarts a service by itself: a crash that is covered up is a crash that nobody looks into.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime

import psutil

from local.platform import airflow, aws, bundle, kubernetes, mlflow, postgres, processes
from local.platform.facts import Facts, Secrets
from local.platform.home import Home, PlatformError
from local.platform.launcher import Child, Launcher
from local.platform.ports import USUAL_PORTS, PortReservations, is_free
from local.platform.service import Command, NotReady, Service, StartError, start_order
from local.platform.state import PlatformState, ProcessId, ServiceState, ServiceStatus, write_state

ATTEMPTS = 3
TAIL_LINES = 20
_POLL = 0.15  # seconds between two questions whether a service is ready


class ServiceFailed(Exception):
    """A service did not start."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


def all_services(facts: Facts) -> list[Service]:
    """Return the platform's services, as they are listed to people."""
    return [
        postgres.service(facts),
        aws.service(facts),
        kubernetes.service(facts),
        mlflow.service(facts),
        *airflow.services(facts),
    ]


class Supervisor:
    """Runs the services of one home."""

    def __init__(
        self, home: Home, own: ProcessId, declare: Callable[[Facts], Sequence[Service]] = all_services
    ) -> None:
        self._home = home
        self._declare = declare
        self._services: dict[str, Service] = {}
        self._running: dict[str, Child] = {}
        self._launcher: Launcher | None = None
        self._watchers: list[asyncio.Task[None]] = []
        self._forking = 0
        self._stop = asyncio.Event()
        self._crash = asyncio.Event()
        self._state = PlatformState(home=str(home.root), phase="starting", supervisor=own, started_at=time.time())

    async def run(self) -> int:
        """Start, watch until told to stop, stop. Returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        processes.become_subreaper()
        reaper = asyncio.create_task(self._reap_orphans())
        reservations = PortReservations()
        try:
            return await self._run(reservations)
        finally:
            reaper.cancel()
            self._set_phase("stopping", keep_failed=True)
            await self._stop_all()
            reservations.release()
            self._set_phase("stopped", keep_failed=True)
            say("stopped")

    async def _run(self, reservations: PortReservations) -> int:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if not await self._until_stop(self._start_all(reservations)):
                    return 0
                break
            except (ServiceFailed, PlatformError, OSError) as error:
                self._state.error = str(error)
                say(f"start failed: {error}")
                if attempt < ATTEMPTS and isinstance(error, ServiceFailed) and self._lost_port(error.name):
                    say("its port was taken by another program meanwhile; starting over with other ports")
                    await self._stop_all()
                    reservations.release()
                    self._state.error = None
                    continue
                self._set_phase("failed")
                return 1
        self._state.healthy_after = round(time.time() - self._state.started_at, 1)
        self._set_phase("running")
        say(f"everything is healthy after {self._state.healthy_after} s")
        keepers = [asyncio.create_task(self._keep(one)) for one in self._services.values() if one.again_seconds]
        await self._stop.wait()
        for keeper in keepers:
            keeper.cancel()
        return 0

    async def _keep(self, service: Service) -> None:
        """See again and again to what a service sees to; say each reason once why it could not."""
        assert service.ready is not None
        assert service.again_seconds is not None
        told = ""
        while True:
            await asyncio.sleep(service.again_seconds)
            try:
                await asyncio.to_thread(service.ready)
                told = ""
            except Exception as error:
                if told != (told := f"{service.name}: {error}"):
                    say(told)

    async def _until_stop(self, work: Coroutine[None, None, None]) -> bool:
        """Do the work; give up, and return False, when told to stop.

        Raises:
            ServiceFailed: the work raised it, or a service that was ready has crashed since.
        """
        task = asyncio.create_task(work)
        others = [asyncio.create_task(self._stop.wait()), asyncio.create_task(self._crash.wait())]
        await asyncio.wait({task, *others}, return_when=asyncio.FIRST_COMPLETED)
        for other in others:
            other.cancel()
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ServiceFailed):
            await task
        for name, service in self._state.broken.items():
            raise ServiceFailed(name, service.error or service.state)
        return not self._stop.is_set()

    # --- Start ------------------------------------------------------------------------------------

    async def _start_all(self, reservations: PortReservations) -> None:
        ports = {name: reservations.reserve(usual) for name, usual in USUAL_PORTS.items()}
        facts = Facts(self._home, ports, Secrets.generate())
        self._home.wipe()
        facts.write_secrets()
        declared = self._declare(facts)
        self._services = {service.name: service for wave in start_order(declared) for service in wave}
        now = time.time()
        self._state.ports = ports
        self._state.addresses = facts.addresses
        self._state.services = {
            service.name: ServiceState(since=now, port=service.port, log=str(self._home.log(service.name)))
            for service in declared
        }
        self._save()
        bundle.assemble(facts)
        bundle.check_settings(self._home.bundle)
        started: dict[str, asyncio.Event] = {name: asyncio.Event() for name in self._services}
        try:
            async with asyncio.TaskGroup() as group:
                for service in self._services.values():
                    group.create_task(self._start(service, started))
        except BaseExceptionGroup as failures:
            raise _first(failures) from None
        self._close_launcher()

    async def _start(self, service: Service, started: dict[str, asyncio.Event]) -> None:
        for need in service.needs:
            await started[need].wait()
        begun = time.time()
        self._set(service.name, "starting")
        try:
            async with asyncio.timeout(service.start_timeout):
                if service.prepare:
                    await asyncio.to_thread(service.prepare)
                if service.command:
                    await self._spawn(service)
                if service.job:
                    await self._finish_job(service)
                if service.launcher:
                    assert self._launcher is not None
                    await self._alive_while(service, self._launcher.until_ready())
                if service.ready:
                    await self._until_ready(service)
                if service.finish:
                    await self._alive_while(service, asyncio.to_thread(service.finish))
        except TimeoutError:
            last = self._state.services[service.name].error
            message = f"not ready after {service.start_timeout:g} s" + (f"; last answer: {last}" if last else "")
            self._fail(service.name, message)
        except (StartError, NotReady, PlatformError) as error:
            self._fail(service.name, str(error))
        except (OSError, RuntimeError, ValueError, LookupError) as error:
            self._fail(service.name, f"{type(error).__name__}: {error}")
        took = round(time.time() - begun, 1)
        stays = service.command is not None and not service.job and not service.launcher
        self._set(service.name, "healthy" if stays else "done", took=took)
        say(f"{service.name} ready in {took} s")
        started[service.name].set()
        if stays:
            self._watch(service.name, self._running[service.name])

    async def _spawn(self, service: Service) -> None:
        assert service.command is not None
        command = await asyncio.to_thread(service.command)
        if command.airflow is not None:
            assert self._launcher is not None
            self._forking += 1
            try:
                log = str(self._home.log(service.name))
                self._running[service.name] = await self._launcher.start(list(command.airflow), log)
            finally:
                self._forking -= 1
        else:
            self._running[service.name] = await self._execute(service, command)
        process = self._running[service.name]
        self._state.services[service.name].process = processes.identify(process.pid)
        self._save()

    async def _execute(self, service: Service, command: Command) -> Child:
        argv, descriptors = [str(part) for part in command.argv], []
        if service.launcher:
            self._launcher = Launcher()
            descriptors.append(self._launcher.theirs.fileno())
            argv.append(str(descriptors[0]))
        with self._home.log(service.name).open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(command.environment),
                cwd=command.directory,
                start_new_session=True,
                pass_fds=descriptors,
            )

    async def _finish_job(self, service: Service) -> None:
        code = await self._running[service.name].wait()
        if code != 0:
            raise StartError(f"ended with {describe_exit(code)}")

    async def _until_ready(self, service: Service) -> None:
        assert service.ready is not None
        while True:
            try:
                await self._alive_while(service, asyncio.to_thread(service.ready))
                self._state.services[service.name].error = None
                return
            except NotReady as error:
                self._state.services[service.name].error = str(error)
            await asyncio.sleep(_POLL)

    async def _alive_while(self, service: Service, work: Coroutine[None, None, None]) -> None:
        """Do the work, but fail as soon as the service's process ends: somebody else may answer on its port."""
        process = self._running.get(service.name)
        task = asyncio.create_task(work)
        if process is None:
            await task
            return
        ended = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
            if process.returncode is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task
                raise StartError(f"ended with {describe_exit(process.returncode)}")
            await task
        finally:
            ended.cancel()

    def _fail(self, name: str, message: str) -> None:
        self._set(name, "failed", error=message)
        raise ServiceFailed(name, message) from None

    def _lost_port(self, name: str) -> bool:
        """Whether the service failed because a foreign process listens on its port."""
        port = self._services[name].port if name in self._services else None
        process = self._running.get(name)
        return port is not None and process is not None and process.returncode is not None and not is_free(port)

    def _close_launcher(self) -> None:
        if self._launcher is not None:
            self._launcher.close()
            self._launcher = None

    # --- Watch ------------------------------------------------------------------------------------

    def _watch(self, name: str, process: Child) -> None:
        async def wait() -> None:
            code = await process.wait()
            if not self._stop.is_set():
                message = f"crashed: ended with {describe_exit(code)}"
                self._set(name, "crashed", error=message)
                end = processes.tail(self._home.log(name), TAIL_LINES)
                say(f"{name} {message}; the last lines of {self._home.log(name)}:\n{end}")
                self._crash.set()

        self._watchers.append(asyncio.create_task(wait()))

    async def _reap_orphans(self) -> None:
        while True:
            await asyncio.sleep(1)
            if not self._forking:  # a child between its birth and its entry in `_running` is not ours to collect here
                processes.reap(process.pid for process in self._running.values())

    # --- Stop -------------------------------------------------------------------------------------

    async def _stop_all(self) -> None:
        """Stop services in the opposite order of their start, then whatever else descends from here."""
        for watcher in self._watchers:
            watcher.cancel()
        self._watchers.clear()
        stopped: dict[str, asyncio.Event] = {name: asyncio.Event() for name in self._services}

        async def stop(service: Service) -> None:
            for other in self._services.values():
                if service.name in other.needs:
                    await stopped[other.name].wait()
            await self._stop_one(service)
            stopped[service.name].set()

        await asyncio.gather(*map(stop, self._services.values()))
        await self._kill_descendants()
        self._close_launcher()
        self._running.clear()
        self._crash.clear()

    async def _stop_one(self, service: Service) -> None:
        process = self._running.get(service.name)
        entry = self._state.services[service.name]
        if process is None or process.returncode is not None:
            if entry.state not in ("failed", "crashed"):
                self._set(service.name, "stopped")
            return
        if entry.state != "failed":
            self._set(service.name, "stopping")
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(service.stop_signal)
        try:
            async with asyncio.timeout(service.stop_grace):
                await process.wait()
        except TimeoutError:
            say(f"{service.name} did not stop within {service.stop_grace:g} s; killed")
            with contextlib.suppress(psutil.NoSuchProcess):
                leader = psutil.Process(process.pid)
                processes.send([leader, *processes.descendants(leader)], signal.SIGKILL)
            await process.wait()
        if entry.process:
            # What the service forked and did not take along.
            processes.send(await asyncio.to_thread(processes.in_sessions, [entry.process]), signal.SIGKILL)
        if entry.state != "failed":
            self._set(service.name, "stopped")

    async def _kill_descendants(self) -> None:
        """End what is left below this process; as a subreaper it is the parent of all orphans."""
        for _ in range(50):
            left = processes.descendants(psutil.Process())
            marked = await asyncio.to_thread(processes.marked, self._home.root)
            own = os.getpid()
            left += [process for process in marked if process.pid != own]
            alive = [process for process in left if _is_alive(process)]
            processes.reap(process.pid for process in self._running.values())
            if not alive:
                return
            processes.send(alive, signal.SIGKILL)
            await asyncio.sleep(0.1)

    # --- State ------------------------------------------------------------------------------------

    def _set(self, name: str, state: ServiceStatus, error: str | None = None, took: float | None = None) -> None:
        entry = self._state.services[name]
        entry.state = state
        entry.since = time.time()
        entry.error = error if error is not None or state in ("healthy", "done") else entry.error
        entry.took = took if took is not None else entry.took
        self._save()

    def _set_phase(self, phase: str, keep_failed: bool = False) -> None:
        if not (keep_failed and self._state.phase == "failed"):
            self._state.phase = phase  # type: ignore[assignment]
        self._save()

    def _save(self) -> None:
        write_state(self._home.state_file, self._state)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def describe_exit(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def say(message: str) -> None:
    """Write a line to the supervisor's log, which is its standard output."""
    print(f"{datetime.now().astimezone().isoformat(timespec='milliseconds')} {message}", flush=True)


def supervise(home: Home) -> int:
    """Run a supervisor in this process until it is told to stop.

    Raises:
        PlatformError: the home has a supervisor already.
    """
    home.claim()
    with home.supervisor_lock.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PlatformError(f"{home.root} has a running supervisor already") from None
        own = processes.identify(os.getpid())
        assert own is not None
        lock.truncate(0)
        lock.write(own.model_dump_json())
        lock.flush()
        return asyncio.run(Supervisor(home, own).run())
