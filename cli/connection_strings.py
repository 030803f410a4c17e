"""Connection strings hold passwords, so commands take them from where nobody else reads."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

from civicbus.errors import ConfigurationError

STDIN = "-"
_MEND = "give the file of a connection string, or -"


def connection_string(place: str) -> str:
    """From standard input, or from a file that only this user reads; raises ConfigurationError for any other."""
    if place == STDIN:
        return sys.stdin.read().strip()
    file = Path(place)
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise ConfigurationError(f"{file} is readable by others", mend=f"run `chmod 600 {file}`")
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}", mend=_MEND) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{file} cannot be read: it is no text", mend=_MEND) from None
