"""Starts one part of the platform without the supervisor, and waits until it answers."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from civicbus.errors import CivicbusError
from civicbus.infra.service import Service
from civicbus.settings import Settings

LOOK_EVERY_S = 0.05


def settings(home: Path) -> Settings:
    """The settings of this machine, so that tests share its download cache, for a home of their own."""
    return Settings().model_copy(update={"home": home})


def start(service: Service, log: Path) -> subprocess.Popen[bytes]:
    """Start a part and wait until it is ready; the failure shows its log."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            service.command,
            cwd=service.folder,
            env={"PATH": os.defpath} | dict(service.environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            umask=0o077,
            user=None if service.run_as is None else service.run_as.uid,
            group=None if service.run_as is None else service.run_as.gid,
            extra_groups=None if service.run_as is None else (),
        )
    deadline = time.monotonic() + service.ready_timeout_s
    while not _is_ready(service):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise AssertionError(f"{service.name} did not become ready:\n{log.read_text()[-3000:]}")
        time.sleep(LOOK_EVERY_S)
    return process


def stop(service: Service, process: subprocess.Popen[bytes]) -> None:
    process.send_signal(service.stop_signal)
    process.wait(service.stop_timeout_s)


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9, as an operator or the kernel would."""
    process.kill()
    process.wait()


@contextmanager
def running(service: Service, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A part for the time of a block; stopped in order where the block has not ended it."""
    process = start(service, log)
    try:
        yield process
    finally:
        if process.poll() is None:
            stop(service, process)


def _is_ready(service: Service) -> bool:
    try:
        return service.ready()
    except CivicbusError:
        return False
