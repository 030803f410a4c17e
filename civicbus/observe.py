"""What every process shows from outside: ``/metrics`` (OpenMetrics by Prometheus' client) and ``/healthz``.

The server binds a free loopback port and leaves ``<home>/run/<process>.json`` with pid and port, where the
supervisor, ``civicbus status`` and Prometheus' file discovery find it.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder

from civicbus.settings import run_folder


@dataclass(slots=True)
class Health:
    """Whether this process does its work now, and if not, why. Safe to use from several threads.

    ``goes_by``: how far the topics of the rules were read by which all that is visible now was decided.
    """

    ready: bool = False
    detail: str = "starting"
    goes_by: Mapping[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def up(self, detail: str = "running") -> None:
        self._set(True, detail)

    def down(self, detail: str) -> None:
        self._set(False, detail)

    def _set(self, ready: bool, detail: str) -> None:
        with self._lock:
            self.ready, self.detail = ready, detail


@dataclass(frozen=True, slots=True)
class Observed:
    """A process seen through its run file."""

    process: str
    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def serve(process: str, home: Path, health: Health, registry: CollectorRegistry = REGISTRY) -> ThreadingHTTPServer:
    """Serve metrics and health in a daemon thread; returns the server, whose ``shutdown()`` stops it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                shown = {"ready": health.ready, "detail": health.detail, "goes_by": health.goes_by}
                body = json.dumps({"process": process, **shown}).encode()
                self._answer(200 if health.ready else 503, "application/json", body)
            elif self.path.partition("?")[0] == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept") or "")
                self._answer(200, content_type, encode(registry))
            else:
                self._answer(404, "text/plain", b"/metrics and /healthz are here\n")

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            with suppress(BrokenPipeError, ConnectionResetError):  # who asked does not wait any more
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            """Requests for metrics are not news."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="observe", daemon=True).start()
    _leave_run_file(process, home, server.server_address[1])
    return server


def observed(home: Path) -> list[Observed]:
    """Every process that left a run file, living or not."""
    return [
        Observed(path.stem, document["pid"], document["port"])
        for path in sorted(run_folder(home).glob("*.json"))
        for document in [json.loads(path.read_text())]
    ]


def _leave_run_file(process: str, home: Path, port: int) -> None:
    folder = run_folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{process}.{os.getpid()}"
    draft.write_text(json.dumps({"pid": os.getpid(), "port": port}))
    draft.replace(folder / f"{process}.json")
