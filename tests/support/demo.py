"""`civicbus demo` as a process, and what it proved."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("civicbus")), "--home", str(home), "demo", "--json", *arguments]
    log = (home / "demo.log").open("a")
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)


def finished(demo: subprocess.Popen[str], home: Path) -> dict[str, object]:
    out, _ = demo.communicate(timeout=400)
    said = (home / "demo.log").read_text(errors="replace")[-3000:]
    assert demo.returncode == 0, f"{out[-2000:]}\n{said}"
    return json.loads(out)
