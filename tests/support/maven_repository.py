"""A Maven repository on loopback that serves made-up jars, counts what it is asked, and can misbehave."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from civicbus.infra.jars import Jar
from support.answering import answering


@dataclass
class Repository:
    """``served`` maps a file's name to its bytes; ``cut`` says how often its body breaks off half-way."""

    url: str = ""
    served: dict[str, bytes] = field(default_factory=dict)
    cut: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)

    def publish(self, name: str, content: bytes) -> Jar:
        """Serve a jar and say how a lock names it."""
        file = f"{name}-1.0.jar"
        self.served[file] = content
        return Jar(
            coordinate=f"test.made.up:{name}:jar:1.0",
            file=file,
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )

    def configuration(self, folder: Path) -> Path:
        """A jgo configuration that names this repository in place of the usual one."""
        path = folder / "jgo.conf"
        path.write_text(f"[repositories]\ncentral = {self.url}\n")
        return path


@contextmanager
def repository() -> Iterator[Repository]:
    content = Repository()

    def answer(request: BaseHTTPRequestHandler) -> None:
        name = request.path.rpartition("/")[2]
        body = content.served.get(name)
        content.asked[name] += 1
        if body is None:
            request.send_error(404)
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if content.cut[name] > 0:
            content.cut[name] -= 1
            body = body[: len(body) // 2]
        request.wfile.write(body)

    with answering(answer) as server:
        content.url = server.url
        yield content
