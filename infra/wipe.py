"""Removes what the platform made in a home, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

from civicbus.infra import postgres
from civicbus.infra.lock import home_lock, lock_file

# Everything that civicbus keeps in a home, by name; the lock goes last.
FOLDERS = (
    *("kafka", "registry", "postgres", "connect", "run", "logs", "secrets", "prometheus", "cache"),
    *("sources", "folders", "captures", "ingress"),
)
FILES = ("endpoints.json", "ports.json", "processes.json", "services.json", "services.lock", "postgres.place")
# What a kill in the middle of a replacement leaves.
DRAFTS = ("endpoints.new", "ports.new", ".processes.json.new", ".services.json.new")


def wipe(home: Path) -> tuple[Path, ...]:
    """Remove the home's state; gives what was not civicbus's and so was left. Raises where a platform runs."""
    if not home.exists():
        return ()
    with home_lock(home):
        postgres.wipe(home)
        for name in FOLDERS:
            _remove_folder(home / name)
        for name in (*FILES, *DRAFTS):
            (home / name).unlink(missing_ok=True)
        lock_file(home).unlink()
    left = tuple(sorted(home.iterdir()))
    if not left:
        home.rmdir()
    return left


def _remove_folder(folder: Path) -> None:
    """A link in a folder's place is removed, never followed."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
