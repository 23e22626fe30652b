from __future__ import annotations

import socket

import pytest

from local import ports


def test_chosen_ports_are_different_and_free_with_their_neighbours() -> None:
    chosen = ports.choose(20)
    assert len(set(chosen)) == 20
    assert all(ports.is_free(port) and ports.is_free(port + ports.GRPC_OFFSET) for port in chosen)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_port_with_a_listener_is_not_free(host: str) -> None:
    with socket.socket() as listener:
        listener.bind((host, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_port_that_is_to_be_left_out_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = ports.choose(3)
    monkeypatch.setattr(ports, "_CANDIDATES", [first, second, third])
    assert ports.choose(1, without=[first, second + ports.GRPC_OFFSET]) == [third]


def test_port_with_a_neighbour_in_use_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        [port, *_] = ports.choose(1)
        listener.bind((ports.HOST, port + ports.GRPC_OFFSET))
        listener.listen()
        monkeypatch.setattr(ports, "_CANDIDATES", range(port, port + 1))
        with pytest.raises(RuntimeError, match="fewer than 1 free ports"):
            ports.choose(1)
