"""The publishers against a plain kafka-python producer with the same settings and bytes, on a running platform.

    python -m benchmarks.publisher --home .civicbus

Prints changes a second and the process's CPU microseconds for each, in turns, because machines have moods.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from civicbus.events import ChangeEvent, Headers, upserted
from civicbus.infra.provision import provision_dataset
from civicbus.names import DatasetId, DepartmentId, source_of
from civicbus.producers.async_publisher import AsyncPublisher
from civicbus.producers.publisher import Publisher
from civicbus.producers.spool import Spool
from civicbus.producers.spooling import Spooling
from civicbus.schemas.catalogue_files import load_catalogue, shipped_catalogue
from civicbus.schemas.codec.frame import frame
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.datasets import Dataset
from civicbus.secrets import OPERATOR, SecretStore
from civicbus.settings import Endpoints, secrets_folder
from civicbus.transport.outgoing import OPTIONS, Outgoing
from civicbus.transport.python_clients import python_producer

Row = dict[str, object]
WORDS = ("Completed", "Open", "Garbage or other obstruction in public way", "Overflowing carts", "W 59TH ST", "HALSTED")


def row(number: int) -> Row:
    pick = random.Random(number).choice  # noqa: S311 - rows of a benchmark, no secret
    texts = ("status", "type_of_service_request", "nature_of_violation", "street_address", "zip_code", "ward")
    return {name: pick(WORDS) for name in texts} | {
        "service_request_number": f"12-{number:08}",
        "creation_date": date(2013, 1, 1),
        "completion_date": date(2013, 1, 9),
        "police_district": "9",
        "community_area": "61",
        "latitude": 41.8 + number / 1e6,
        "longitude": -87.6 - number / 1e6,
    }


class Benchmark:
    """One dataset and its rows, sent by each of the two."""

    def __init__(self, home: Path, count: int) -> None:
        self._endpoints, secrets = Endpoints.load(home), SecretStore(secrets_folder(home))
        self._credentials = secrets.read(OPERATOR)
        shipped = load_catalogue(shipped_catalogue()).datasets
        complaints = shipped[DatasetId.parse("streets_sanitation.sanitation_complaints")]
        self._dataset: Dataset = replace(complaints, id=DatasetId(DepartmentId("benchmarks"), "publisher"))
        provision_dataset(self._endpoints, secrets, self._dataset)
        self._rows = [row(number) for number in range(count)]

    def plain(self) -> float:
        codec, topic = RowCodec(self._dataset.schema), self._dataset.id.changes
        keys = [self._dataset.key_of(row) for row in self._rows]
        headers = [self._headers(number) for number in range(len(self._rows))]
        producer = python_producer(self._endpoints, self._credentials, OPTIONS)
        producer.send(topic, key=keys[0], value=b"first").get(30)

        def send() -> None:
            for key, row, head in zip(keys, self._rows, headers, strict=True):
                producer.send(topic, key=key, value=frame(1, codec.encode(row)), headers=head)
            producer.flush()

        rate = self._measure("kafka-python", send)
        producer.close()
        return rate

    def publisher(self) -> float:
        with self._connected() as publisher:
            publisher.upsert(self._rows[0]).result(30)

            def send() -> None:
                for row in self._rows:
                    publisher.upsert(row)
                publisher.flush()

            return self._measure("Publisher", send)

    def awaited(self) -> None:
        async def send() -> None:
            for row in self._rows:
                await publisher.upsert(row)
            await publisher.flush()

        with asyncio.Runner() as runner, self._connected() as connected:
            connected.upsert(self._rows[0]).result(30)
            publisher = AsyncPublisher(connected)
            self._measure("AsyncPublisher", lambda: runner.run(send()))

    def spooling(self) -> None:
        with TemporaryDirectory() as folder:
            spool = Spool(Path(folder) / "spool", self._dataset.id)
            connect = partial(Outgoing, self._endpoints, self._credentials, self._dataset.id.changes)
            with Publisher.over(Spooling(spool, connect), self._dataset, 1) as publisher:
                publisher.upsert(self._rows[0]).result(30)

                def send() -> None:
                    for row in self._rows:
                        publisher.upsert(row)
                    publisher.flush()

                self._measure("with a spool", send)

    def _connected(self) -> Publisher:
        return Publisher(self._endpoints, self._credentials, self._dataset, 1)

    def _headers(self, number: int) -> Headers:
        return ChangeEvent(
            id=f"0123456789abcdef0123456789abcdef-{number}",
            source=source_of(self._dataset.id.department),
            type=upserted(self._dataset.id),
            time=datetime.now(UTC),
            sequence=time.time_ns(),
        ).headers()

    def _measure(self, what: str, send: Callable[[], None]) -> float:
        """Changes a second."""
        wall, cpu = time.perf_counter(), time.process_time()
        send()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        count = len(self._rows)
        print(f"{what:14} {count / wall:8.0f} changes a second {cpu / count * 1e6:6.1f} µs of CPU each")
        return count / wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".civicbus"))
    parser.add_argument("--count", type=int, default=30_000)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    benchmark = Benchmark(arguments.home, arguments.count)
    for _ in range(arguments.turns):
        benchmark.plain()
        benchmark.publisher()
        benchmark.awaited()
        benchmark.spooling()


if __name__ == "__main__":
    main()
