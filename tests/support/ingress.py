"""The ingress as a process on the session's platform, with a home of its own, and a department's key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import httpx

from civicbus.names import DepartmentId
from civicbus.producers.http.keys import KeyFile
from civicbus.producers.http.listening import ingress_folder, known_url
from support.platform import Platform
from support.stages import StageProcess


@dataclass(frozen=True, slots=True)
class RunningIngress:
    """The process, and what a client needs."""

    home: Path
    process: StageProcess

    @property
    def url(self) -> str:
        url = known_url(self.home)
        assert url is not None
        return url

    def key(self, department: DepartmentId) -> str:
        return KeyFile(ingress_folder(self.home)).make(department)

    def client(self, department: DepartmentId) -> httpx.Client:
        return client(self.url, self.key(department))


def client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30)


def on_the_platform(platform: Platform) -> RunningIngress:
    """The ingress of the platform's own home, not started yet."""
    return RunningIngress(platform.home, StageProcess("civicbus.producers.http", platform.home, "ingress"))


def ingress(platform: Platform, home: Path) -> RunningIngress:
    """An ingress that is not started yet; its home has the platform's endpoints and secrets and nothing else."""
    home.mkdir()
    (home / "secrets").symlink_to(platform.home / "secrets")
    platform.endpoints.save(home)
    return RunningIngress(home, StageProcess("civicbus.producers.http", home, "ingress"))
