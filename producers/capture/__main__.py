"""The capture process of one department: ``python -m civicbus.producers.capture --home FOLDER --department ID``.

It has that department's credentials and no others. What it does not reach is waited for.
"""

from __future__ import annotations

from civicbus.producers.capture.process import capture_of
from civicbus.serving import serve


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    serve("capture", "civicbus.producers.capture", "whose tables are captured", capture_of)


if __name__ == "__main__":
    main()
