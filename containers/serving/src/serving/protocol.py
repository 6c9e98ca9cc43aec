"""HTTP as uvicorn speaks it, with a fast path for what is asked most.

An invocation that arrives whole (in one read, as small ones do) is answered then and there: without a task, an event
and the messages of ASGI, which together cost as much as the prediction. Whatever is not ordinary takes uvicorn's way.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.app import Application


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._application: Application = self.config.app  # type: ignore[assignment]
        self._held: list[bytes] | None = None
        """Body so far of a request that may take the fast path; None when there is none."""

    def data_received(self, data: bytes) -> None:
        """Read on. What is not whole by now takes the slow path."""
        super().data_received(data)
        if self._held is not None and not self.transport.is_closing():
            self._take_the_long_way()

    def on_headers_complete(self) -> None:
        """Choose the way."""
        parser = self.parser
        if (
            self.url == b"/invocations"
            and parser.get_method() == b"POST"
            and parser.get_http_version() == "1.1"
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and (self.cycle is None or self.cycle.response_complete)
            and not self.pipeline
            and not self.flow.write_paused
        ):
            self._held = []
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if self._held is None:
            super().on_body(body)
        else:
            self._held.append(body)

    def on_message_complete(self) -> None:
        """Answer."""
        if self._held is not None:
            answer = self._application.answer_now(self.headers, b"".join(self._held))
            if answer is not None:
                self._held = None
                self._write(*answer)
                return
            self._take_the_long_way()
        super().on_message_complete()

    def _take_the_long_way(self) -> None:
        held, self._held = self._held or [], None
        super().on_headers_complete()
        for body in held:
            super().on_body(body)

    def _write(self, status: int, headers: list[tuple[bytes, bytes]], content: bytes) -> None:
        if self.transport.is_closing():
            return
        parts = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers):
            parts += (name, b": ", value, b"\r\n")
        parts += (b"\r\n", content)
        self.transport.write(b"".join(parts))
        self.on_response_complete()
