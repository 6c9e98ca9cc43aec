"""`kubectl exec`: a command in a container, over a WebSocket with numbered channels."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import secrets
import struct
import subprocess
import termios

from aiohttp import WSMsgType, web

from local.kubernetes.containers import Container
from local.kubernetes.errors import JSON, ApiError, status
from local.kubernetes.logs import boolean
from local.kubernetes.processes import ContainerProcess, Guard, start_problem
from local.kubernetes.sidecar import Sidecar

# https://kubernetes.io/blog/2024/08/20/websockets-transition/ : v5 adds a frame that half-closes a channel.
PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE, _CLOSE = 0, 1, 2, 3, 4, 255
_REFUSED = (
    "the local Kubernetes API does not run commands in the emulated XCom sidecar, except those of "
    "KubernetesPodOperator\n"
)


def _result(code: int | str) -> JSON:
    """Return what the error channel says: of an exit code, or of why there is none."""
    if isinstance(code, str):
        why = f"error executing command in container: failed to exec in container: {code}"
        return status(500, f"Internal error occurred: {why}", "InternalError", {"causes": [{"message": why}]})
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    cause = {"reason": "ExitCode", "message": str(code)}
    message = f"command terminated with non-zero exit code: exit status {code}"
    return status(500, message, "NonZeroExitCode", {"causes": [cause]})


class Session:
    """One exec request."""

    def __init__(self, request: web.Request, container: Container, guard: Guard) -> None:
        query = request.query
        self._request = request
        self._container = container
        self._guard = guard
        self._command = query.getall("command", [])
        self._stdin, self._tty = boolean(query, "stdin"), boolean(query, "tty")
        self._stdout = boolean(query, "stdout")
        self._stderr = boolean(query, "stderr") and not self._tty
        if not self._command:
            raise ApiError(400, "you must specify at least 1 command for the container")
        if not (self._stdin or self._stdout or self._stderr):
            raise ApiError(400, "you must specify at least one of stdin, stdout, stderr")
        if "websocket" not in request.headers.get("Upgrade", "").lower():
            raise ApiError(400, "Upgrade request required")
        self._socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=0, timeout=2, compress=False)

    async def _send(self, channel: int, data: bytes) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            await self._socket.send_bytes(bytes([channel]) + data)

    async def run(self) -> web.WebSocketResponse:
        """Answer the request."""
        await self._socket.prepare(self._request)
        # The Python client wants to see both streams exist.
        for channel, wanted in ((_STDOUT, self._stdout), (_STDERR, self._stderr)):
            if wanted:
                await self._send(channel, b"")
        code: int | str
        if isinstance(self._container.runtime, Sidecar):
            code = await self._run_in_sidecar(self._container.runtime)
        else:
            code = await self._run_process()
        await self._send(_ERROR, json.dumps(_result(code)).encode())
        await self._socket.close()
        return self._socket

    async def _frames(self) -> tuple[int, bytes] | None:
        """Return the next frame as channel and data, None at the end of the connection."""
        while True:
            message = await self._socket.receive()
            if message.type == WSMsgType.TEXT:
                data = message.data.encode()
            elif message.type == WSMsgType.BINARY:
                data = message.data
            else:
                return None
            if data:
                return data[0], data[1:]

    # -- the emulated sidecar

    async def _run_in_sidecar(self, runtime: Sidecar) -> int:
        if not runtime.is_shell(self._command):
            output = runtime.answer(self._command)
            if output is None:
                await self._send(_STDERR, _REFUSED.encode())
                return 126
            await self._send(_STDOUT, output)
            return 0
        pending = b""
        while frame := await self._frames():
            channel, data = frame
            if channel == _CLOSE:
                break
            if channel != _STDIN:
                continue
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                if not runtime.stdin(line.decode(errors="replace")):
                    await self._send(_STDERR, _REFUSED.encode())
                    return 126
            if not self._container.running or runtime.stopped:
                break
        return 0

    # -- a process beside the container's own

    async def _run_process(self) -> int | str:
        container = self._container
        terminal, side = pty.openpty() if self._tty else (None, None)
        try:
            process = subprocess.Popen(
                self._command,
                env=container.env | ({"TERM": "xterm"} if self._tty else {}),
                cwd=container.cwd,
                stdin=side if side is not None else (subprocess.PIPE if self._stdin else subprocess.DEVNULL),
                stdout=side if side is not None else subprocess.PIPE,
                stderr=side if side is not None else subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            return (
                f'failed to start exec "{secrets.token_hex(32)}": OCI runtime exec failed: exec failed: '
                f"unable to start container process: {start_problem(self._command, error)}"
            )
        finally:
            if side is not None:
                os.close(side)
        running = ContainerProcess(process, self._guard)
        running.join(process.pid)
        container.execs.add(running)
        incoming = asyncio.create_task(self._feed(process, terminal, running))
        outgoing: list[asyncio.Task[None]] = []
        if terminal is not None:
            outgoing.append(asyncio.create_task(self._pump(terminal, _STDOUT, wanted=self._stdout)))
        else:
            assert process.stdout is not None
            assert process.stderr is not None
            outgoing.append(asyncio.create_task(self._pump(process.stdout.fileno(), _STDOUT, wanted=self._stdout)))
            outgoing.append(asyncio.create_task(self._pump(process.stderr.fileno(), _STDERR, wanted=self._stderr)))
        try:
            end = await running.wait()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.gather(*outgoing), 2)
        except asyncio.CancelledError:
            running.abandon()  # the client is gone
            raise
        finally:
            container.execs.discard(running)
            incoming.cancel()
            await asyncio.gather(incoming, *outgoing, return_exceptions=True)
            if terminal is not None:
                os.close(terminal)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        return end.code

    async def _pump(self, descriptor: int, channel: int, *, wanted: bool) -> None:
        os.set_blocking(descriptor, False)
        loop = asyncio.get_running_loop()
        while True:
            try:
                chunk = os.read(descriptor, 1 << 15)
            except BlockingIOError:
                ready = asyncio.Event()
                loop.add_reader(descriptor, ready.set)
                try:
                    await ready.wait()
                finally:
                    loop.remove_reader(descriptor)
                continue
            except OSError:
                return  # a terminal whose other side is closed
            if not chunk:
                return
            if wanted:
                await self._send(channel, chunk)

    async def _feed(self, process: subprocess.Popen[bytes], terminal: int | None, running: ContainerProcess) -> None:
        """Pass stdin on; a client that goes away ends the command."""
        while frame := await self._frames():
            channel, data = frame
            if channel == _RESIZE and terminal is not None:
                with contextlib.suppress(ValueError, OSError):
                    size = json.loads(data)
                    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size["Height"], size["Width"], 0, 0))
            elif channel == _STDIN and terminal is not None:
                with contextlib.suppress(OSError):
                    os.write(terminal, data)
            elif channel == _STDIN and process.stdin is not None and not process.stdin.closed:
                # In a thread: a command that does not read would block everything else.
                with contextlib.suppress(OSError, ValueError):
                    await asyncio.to_thread(_write_all, process.stdin.fileno(), data)
            elif channel == _CLOSE and data[:1] == bytes([_STDIN]) and process.stdin is not None:
                process.stdin.close()
        if process.returncode is None:
            running.kill()


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
