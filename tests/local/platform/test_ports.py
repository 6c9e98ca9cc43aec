from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.platform.ports import LOOPBACK, PortReservations, any_free_port, is_free


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        server.bind((LOOPBACK, 0))
        server.listen()
        yield server


def test_a_port_with_a_listener_is_not_free(listener: socket.socket) -> None:
    assert not is_free(listener.getsockname()[1])


def test_a_port_is_not_free_when_the_listener_is_on_every_address() -> None:
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        server.listen()
        assert not is_free(server.getsockname()[1])


def test_a_port_is_free_again_after_its_connections(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with socket.create_connection((LOOPBACK, port)):
        accepted, _ = listener.accept()
        listener.close()
        accepted.close()  # the server's side closes first and lingers in TIME_WAIT
    assert is_free(port)


def test_the_usual_port_is_preferred(tmp_path: Path) -> None:
    usual = any_free_port()
    assert PortReservations(tmp_path).reserve(usual) == usual


def test_another_port_is_chosen_when_the_usual_one_is_taken(tmp_path: Path, listener: socket.socket) -> None:
    usual = listener.getsockname()[1]
    chosen = PortReservations(tmp_path).reserve(usual)
    assert chosen != usual
    assert is_free(chosen)


def test_two_platforms_never_get_the_same_port(tmp_path: Path) -> None:
    usual = any_free_port()
    first, second = PortReservations(tmp_path), PortReservations(tmp_path)
    ports = [first.reserve(usual), second.reserve(usual), first.reserve(usual), second.reserve(None)]
    assert len(set(ports)) == len(ports)


def test_released_ports_can_be_reserved_again(tmp_path: Path) -> None:
    usual = any_free_port()
    first = PortReservations(tmp_path)
    first.reserve(usual)
    first.release()
    assert list(tmp_path.iterdir()) == []
    assert PortReservations(tmp_path).reserve(usual) == usual
