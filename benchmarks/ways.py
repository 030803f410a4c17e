"""Every way to publish, on a platform as an operator starts it: how fast, and how soon a change is on its topic.

    python -m benchmarks.ways --page

Nothing is built for it: commands of ``civicbus`` set each way up for one department, its processes run below the
supervisor, and all other processes of the platform run beside them (admission decides on every change meanwhile).
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from statistics import median
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import psycopg
from confluent_kafka import Consumer, TopicPartition
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from benchmarks.publisher import Benchmark
from civicbus.infra.databases import OPERATOR_ROLE
from civicbus.infra.lock import holder
from civicbus.infra.wipe import wipe
from civicbus.names import DatasetId, DepartmentId, Topic
from civicbus.producers.capture.database import slot_name
from civicbus.schemas.codec.frame import unframe
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.secrets import OPERATOR, SecretStore
from civicbus.settings import Endpoints, secrets_folder
from civicbus.transport.clients import confluent_consumer

OWNER = DepartmentId("bench_ways")
WAYS = ("outbox", "capture", "folder", "http")
FIELDS = ("id", "at_ns", *(f"f{number}" for number in range(13)))
CHANGES_A_SECOND, WARM_S, LATENCY_S = 100, 5, 30
PAGE = Path("docs/benchmarks-publish.md")

_DEPARTMENT = f"id: {OWNER}\ntitle: {{zh: 性能测试, en: Benchmark}}\ncode: {OWNER}\n"
_ENTRY = """\
id: {owner}.{way}
title: {{zh: 性能测试, en: Benchmark}}
listing:
  abstract: {{zh: 性能测试, en: Benchmark}}
  openness: open
sharing: unconditional
update_cycle: realtime
sequence: required
partitions: 1
key: [id]
{more}fields:
{fields}
"""
_FIELD = "  - {{name: {name}, title: {{zh: {name}, en: {name}}}, classification: public}}"
_COLUMNS = [
    {"name": "id", "type": "string"},
    *({"name": name, "type": ["null", "string"], "default": None} for name in FIELDS[1:]),
]
_ROWS = SQL("INSERT INTO {} SELECT n::text, '0', {} FROM generate_series(%s::int, %s::int) n")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure, and what was wanted of it."""

    way: str
    what: str
    value: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        return f"{self.value:,.2f} {self.unit}" if self.value < 10 else f"{self.value:,.0f} {self.unit}"

    @property
    def wanted(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:,g}"
        return "" if self.at_most is None else f"≤ {self.at_most:,g}"

    @property
    def holds(self) -> str:
        if self.at_least is None and self.at_most is None:
            return ""
        held = self.value >= (self.at_least or 0) and (self.at_most is None or self.value <= self.at_most)
        return "yes" if held else "no"


class Town:
    """A department with every way on a running platform."""

    def __init__(self, folder: Path) -> None:
        self.home, self._catalogue = folder / "home", folder / "catalogue"
        self.drop = folder / "drop"
        self._describe()

    @contextmanager
    def running(self) -> Iterator[None]:
        """The platform runs, and is wiped afterwards."""
        try:
            self.command("up", "--detach")
            self._begin()
            yield
        finally:
            if holder(self.home) is not None:
                self.command("down")
            wipe(self.home)

    def _begin(self) -> None:
        self.command("department", "add", OWNER)
        self.command("catalogue", "apply", str(self._catalogue))
        self.endpoints = Endpoints.load(self.home)
        self._operator = SecretStore(secrets_folder(self.home)).read(OPERATOR)
        self.database = psycopg.connect(self._connection(OPERATOR_ROLE, self._operator.password), autocommit=True)
        for way in ("outbox", "capture"):
            columns = ", ".join(f"{name} text" for name in FIELDS[1:])
            self._sql(f"CREATE TABLE {way} (id text PRIMARY KEY, {columns})")

    def command(self, *words: str, stdin: str = "") -> str:
        """What a command of civicbus printed; ends with its fault."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CIVICBUS_")}
        done = subprocess.run(
            [sys.executable, "-c", "from civicbus.cli.main import main; main()", "--home", str(self.home), *words],
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            sys.exit(f"civicbus {' '.join(words)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def begin_outbox(self) -> None:
        self._sql(self.command("outbox", "sql", f"{OWNER}.outbox", "--table", "outbox"))
        self.command("outbox", "add", OWNER)

    def begin_capture(self) -> None:
        role, password = f"{OWNER}_capture", token_hex(8)
        names = {
            "role": Identifier(role),
            "password": password,
            "database": Identifier(OWNER),
            "publication": Identifier(slot_name(DatasetId(OWNER, "capture"))),
        }
        for statement in (
            "CREATE ROLE {role} LOGIN REPLICATION PASSWORD {password}",
            "GRANT CONNECT ON DATABASE {database} TO {role}",
            "GRANT SELECT ON capture TO {role}",
            "ALTER TABLE capture REPLICA IDENTITY FULL",
            "CREATE PUBLICATION {publication} FOR TABLE capture",
            "ALTER PUBLICATION {publication} OWNER TO {role}",
        ):
            self.database.execute(SQL(statement).format(**names))
        self.command("capture", "add", f"{OWNER}.capture", "--database", "-", stdin=self._connection(role, password))

    def begin_folder(self) -> None:
        self.command("folder", "add", OWNER, "--folder", str(self.drop), "--catalogue", str(self._catalogue))

    def begin_http(self) -> tuple[str, str]:
        """The ingress's address, and a key."""
        key = self.command("ingress", "key", OWNER).split()[-1]
        return self.command("ingress", "url").strip(), key

    def fill(self, way: str, first: int, last: int) -> None:
        """Rows into a table, in one transaction."""
        texts = SQL(", ").join(SQL("'field {} of ' || n || repeat('x', 8)").format(number) for number in range(13))
        self.database.execute(_ROWS.format(Identifier(way), texts), (first, last))

    @contextmanager
    def topic(self, way: str) -> Iterator[Arrivals]:
        """What comes on a way's topic from now on."""
        consumer = confluent_consumer(
            self.endpoints, self._operator, {"group.id": "bench.ways", "fetch.wait.max.ms": 100, "log_level": 2}
        )
        topic = DatasetId(OWNER, way).changes
        with closing(consumer):
            yield Arrivals(consumer, topic)

    def _describe(self) -> None:
        place = self._catalogue / OWNER
        place.mkdir(parents=True)
        (place / "department.yaml").write_text(_DEPARTMENT)
        fields = "\n".join(_FIELD.format(name=name) for name in FIELDS)
        for way in WAYS:
            more = "capture: {table: public.capture}\n" if way == "capture" else ""
            (place / f"{way}.yaml").write_text(_ENTRY.format(owner=OWNER, way=way, more=more, fields=fields))
            (place / f"{way}.avsc").write_text(_schema(way))

    def _sql(self, statements: str) -> None:
        """As the department, whose tables they are."""
        self.command("sql", OWNER, "-c", statements)

    def _connection(self, user: str, password: str) -> str:
        return make_conninfo(
            host=self.endpoints.database_host,
            port=self.endpoints.database_port,
            user=user,
            password=password,
            dbname=OWNER,
        )


def _schema(way: str) -> str:
    return json.dumps({"type": "record", "name": way, "namespace": f"civicbus.{OWNER}", "fields": _COLUMNS})


class Arrivals:
    """Reads one partition from its end."""

    def __init__(self, consumer: Consumer, topic: Topic) -> None:
        self._consumer = consumer
        self._codec = RowCodec(AvroSchema.parse(_schema(topic.rpartition(".")[2])))
        _, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)
        consumer.assign([TopicPartition(topic, 0, end)])

    def wait(self, count: int, within_s: float = 300) -> tuple[float, float]:
        """When the first and the last of so many changes were seen."""
        first_s: float | None = None
        deadline = time.monotonic() + within_s
        while count > 0:
            found = len([each for each in self._consumer.consume(5_000, 0.1) if each.error() is None])
            if found and first_s is None:
                first_s = time.monotonic()
            count -= found
            if time.monotonic() > deadline:
                sys.exit(f"{count} changes did not come in {within_s:g} s")
        return first_s or time.monotonic(), time.monotonic()

    def delays_ms(self, count: int) -> list[float]:
        """How long so many changes took from the time that they carry."""
        delays: list[float] = []
        while len(delays) < count:
            for message in self._consumer.consume(1_000, 0.005):
                if message.error() is None:
                    row = self._codec.decode(unframe(message.value() or b"")[1])
                    delays.append((time.time_ns() - int(str(row["at_ns"]))) / 1e6)
        return delays


def sdk(town: Town, scale: float) -> Iterator[Figure]:
    """Against a plain kafka-python producer with the same settings and bytes, in turns."""
    benchmark = Benchmark(town.home, int(30_000 * scale))
    pairs = [(benchmark.plain(), benchmark.publisher()) for _ in range(3)]
    yield Figure("SDK", "changes", median(ours for _, ours in pairs), "a second")
    yield Figure("SDK", "of a plain kafka-python producer's", median(b / a for a, b in pairs), "x", at_least=0.7)


def outbox(town: Town, scale: float) -> Iterator[Figure]:
    town.begin_outbox()
    count = int(30_000 * scale)
    with town.topic("outbox") as arrivals:
        began_s = time.monotonic()
        town.fill("outbox", 1, count)
        _, last_s = arrivals.wait(count)
        yield Figure("outbox", "rows", count / (last_s - began_s), "a second")
        yield from _soon(town, "outbox", arrivals)


def capture(town: Town, scale: float) -> Iterator[Figure]:
    count = int(60_000 * scale)
    town.fill("capture", 1, count)
    with town.topic("capture") as arrivals:
        town.begin_capture()
        first_s, last_s = arrivals.wait(count)
        yield Figure("capture", "rows of the snapshot", count / (last_s - first_s), "a second", at_least=5_000)
        began_s = time.monotonic()
        for start in range(1, count, 1_000):
            town.fill("capture", count + start, count + start + 999)
        _, last_s = arrivals.wait(count)
        yield Figure("capture", "rows of the log", count / (last_s - began_s), "a second", at_least=5_000)
        yield from _soon(town, "capture", arrivals)


def _soon(town: Town, way: str, arrivals: Arrivals) -> Iterator[Figure]:
    """From the commit of a row until it is on the topic, at an even pace."""
    warm = CHANGES_A_SECOND * WARM_S
    count = warm + CHANGES_A_SECOND * LATENCY_S

    def write() -> None:
        due_s = time.monotonic()
        for number in range(1, count + 1):
            due_s += 1 / CHANGES_A_SECOND
            time.sleep(max(0.0, due_s - time.monotonic()))
            text = f"UPDATE {way} SET at_ns = %s WHERE id = %s"
            town.database.execute(text.encode(), (str(time.time_ns()), str(number)))

    writing = threading.Thread(target=write)
    writing.start()
    delays = arrivals.delays_ms(count)[warm:]
    writing.join()
    yield Figure(way, "from commit to topic, p50", float(np.percentile(delays, 50)), "ms", at_most=40)
    yield Figure(way, "from commit to topic, p99", float(np.percentile(delays, 99)), "ms", at_most=200)


def folder(town: Town, scale: float) -> Iterator[Figure]:
    """From a file's being taken up until its result lies beside it."""
    town.begin_folder()
    count = int(200_000 * scale)
    seconds = _dropped(town, _table(count, 0))
    yield Figure("drop folder", "new rows of a CSV", count / seconds, "a second", at_least=10_000)
    seconds = _dropped(town, _table(count, count))
    yield Figure("drop folder", "changed rows of a CSV", count / seconds, "a second", at_least=10_000)
    seconds = _dropped(town, _table(count, count - 2))
    yield Figure("drop folder", "rows of a CSV, all but two unchanged", count / seconds, "a second", at_least=50_000)


def _table(count: int, changed: int) -> bytes:
    """A CSV of so many rows, the first of which are changed."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(FIELDS)
    for number in range(count):
        state = "changed" if number < changed else "as it was"
        writer.writerow([number, state, *(f"field {place} of {number}xxxxxxxx" for place in range(13))])
    return text.getvalue().encode()


def _dropped(town: Town, content: bytes) -> float:
    part = town.drop / "folder.csv.part"
    part.write_bytes(content)
    done = {*(town.drop / "done").glob("*")}
    part.rename(town.drop / "folder.csv")
    _until(lambda: any((town.drop / "working").iterdir()))
    began_s = time.monotonic()
    _until(lambda: bool({*(town.drop / "done").glob("*")} - done))
    return time.monotonic() - began_s


def http(town: Town, scale: float) -> Iterator[Figure]:
    """Batches of 100 over four connections; an answer comes when the broker has them."""
    url, key = town.begin_http()
    batches = int(400 * scale)
    client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)
    kind = {"Content-Type": "application/cloudevents-batch+json"}
    bodies = [json.dumps([_event(batch * 100 + number) for number in range(100)]) for batch in range(batches + 1)]

    def send(body: str) -> None:
        client.post("/v1/events", content=body, headers=kind).raise_for_status()

    send(bodies.pop())
    with ThreadPoolExecutor(4) as pool:
        began_s = time.monotonic()
        for _ in pool.map(send, bodies):
            pass
        rate = batches * 100 / (time.monotonic() - began_s)
    client.close()
    yield Figure("HTTP", "events in batches of 100", rate, "a second", at_least=3_000)


def _event(number: int) -> dict[str, object]:
    texts = {f"f{place}": f"field {place} of {number}xxxxxxxx" for place in range(13)}
    return {
        "specversion": "1.0",
        "id": f"event-{number}",
        "source": f"urn:civicbus:{OWNER}",
        "type": f"civicbus.{OWNER}.http.upserted",
        "data": {"id": str(number), "at_ns": "0"} | texts,
    }


def _until(holds: Callable[[], bool], within_s: float = 300) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            sys.exit("the folder's process does not answer; see its log")
        time.sleep(0.01)


def _page(figures: Sequence[Figure]) -> str:
    rows = [f"| {each.way} | {each.what} | {each} | {each.wanted} | {each.holds} |" for each in figures]
    return "\n".join(["| way | what | measured | wanted | holds |", "| --- | --- | --- | --- | --- |", *rows, ""])


_HEAD = """\
<!-- Written by `make bench-publish` from the run's own output; change benchmarks/ways.py. -->
# How fast departments publish

Every way to publish ([publish.md](publish.md)) on a platform as `civicbus up` starts it, with rows of 15 fields and
about 300 bytes. Broker, registry, database, admission, views and Kafka Connect share the machine's processors ({cores}
here) with the way that is measured, and admission decides on every change meanwhile.
Everything on this page comes from one run of

```
make bench-publish
```

"""
_FOOT = """
- **SDK**: `Publisher` and a plain kafka-python producer with the same settings, bytes and headers, in turns.
- **Outbox, capture**: rows are on the topic of changes, as a reader that stands by sees them. The pace for the delays
  is {pace} commits a second, each of one row, for {seconds} s, after {warm} s that are not counted.
- **Drop folder**: from a file's being taken up (a file is left alone for a second after it was written last) until its
  result lies beside it.
- **HTTP**: four connections, one ingress; each batch is answered when the broker has it.
"""
_MEASURED = {"sdk": sdk, "outbox": outbox, "capture": capture, "folder": folder, "http": http}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ways", description=__doc__)
    parser.add_argument("--way", action="append", choices=[*_MEASURED], help="only this one; may be given again")
    parser.add_argument("--quick", action="store_true", help="few rows, for trying out")
    parser.add_argument("--page", action="store_true", help=f"write {PAGE} from this run")
    arguments = parser.parse_args()
    figures: list[Figure] = []
    with TemporaryDirectory(prefix="civicbus-ways-") as folder:
        town = Town(Path(folder))
        with town.running():
            for way in arguments.way or _MEASURED:
                for figure in _MEASURED[way](town, 0.1 if arguments.quick else 1.0):
                    print(f"{figure.way}: {figure.what}: {figure}", flush=True)
                    figures.append(figure)
            town.database.close()
    print(f"\n{_page(figures)}")
    if arguments.page:
        text = _HEAD.format(cores=os.cpu_count()) + _page(figures)
        PAGE.write_text(text + _FOOT.format(pace=CHANGES_A_SECOND, seconds=LATENCY_S, warm=WARM_S), encoding="utf-8")


if __name__ == "__main__":
    main()
