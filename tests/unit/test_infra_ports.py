"""The choice of loopback ports."""

from __future__ import annotations

import os
import socket
from dataclasses import astuple
from pathlib import Path

import pytest

from civicbus.errors import ConfigurationError
from civicbus.infra.ports import LOOPBACK, choose, is_free
from civicbus.settings import Settings


def test_a_restart_uses_the_same_ports(tmp_path: Path) -> None:
    first = choose(tmp_path, Settings())

    assert choose(tmp_path, Settings()) == first
    assert len(set(astuple(first))) == len(astuple(first))


def test_a_remembered_port_that_somebody_took_is_given_up(tmp_path: Path) -> None:
    first = choose(tmp_path, Settings())
    with socket.create_server((LOOPBACK, first.kafka)):
        second = choose(tmp_path, Settings())

    assert second.kafka != first.kafka
    assert (second.registry, second.postgres) == (first.registry, first.postgres)


def test_a_fixed_port_in_use_is_named_with_its_setting_and_its_holder(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"port {port}, which CIVICBUS_KAFKA_PORT fixes.*{os.getpid()}"):
            choose(tmp_path, Settings(kafka_port=port))


def test_a_fixed_port_wins_over_the_remembered_one(tmp_path: Path) -> None:
    first = choose(tmp_path, Settings())
    with socket.create_server((LOOPBACK, 0)) as free_soon:
        port = free_soon.getsockname()[1]

    assert choose(tmp_path, Settings(registry_port=port)).registry == port != first.registry


def test_a_port_with_a_closed_connection_on_it_is_free() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection((LOOPBACK, port)):
            server.accept()[0].close()  # the server's side ends first, and lingers in TIME_WAIT

    assert is_free(port)


def test_an_unreadable_memory_of_ports_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("{half")

    assert choose(tmp_path, Settings()) == choose(tmp_path, Settings())
