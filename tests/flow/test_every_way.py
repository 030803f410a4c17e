"""One department publishes by every way at once, on a platform as an operator starts it; its processes are killed
five times on the way, and the tables of the department that subscribes equal what was meant.
"""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date
from functools import partial
from pathlib import Path

import httpx
import pytest

from civicbus.consumers.database import connect
from civicbus.consumers.inbox import partitions_of, read_all
from civicbus.infra.lock import holder
from civicbus.infra.status import platform_view
from civicbus.infra.wipe import wipe
from civicbus.names import AgreementId, DatasetId, Topic, department_id, inbox_topic
from civicbus.schemas.catalogue_files import load_catalogue
from civicbus.secrets import OPERATOR, SecretStore, principal_of
from civicbus.settings import Endpoints, secrets_folder
from civicbus.transport.assigned import AssignedReader, Record
from support.capturing import connection_string, make_role, prepare_table, superuser
from support.platform import Platform
from support.supervision import until

GARDENS, WATCH = department_id("gardens"), department_id("watch")
WAYS = ("sdk", "outbox", "capture", "http", "folder")
KILLS = 5
FIELDS = ("tree_no", "species", "planted_on")
Rows = dict[str, tuple[str, str | None, date]]

DEPARTMENT = "id: {name}\ntitle: {{zh: {name}, en: {name}}}\ncode: {name}\n"
ENTRY = """\
id: gardens.{name}
title: {{zh: {name}, en: {name}}}
listing:
  abstract: {{zh: 行道树。, en: Street trees.}}
  openness: open
sharing: unconditional
update_cycle: daily
sequence: required
partitions: 2
key: [tree_no]
fields:
  - {{name: tree_no, title: {{zh: 树号, en: Number}}, classification: public}}
  - {{name: species, title: {{zh: 树种, en: Species}}, classification: public}}
  - {{name: planted_on, title: {{zh: 栽种日期, en: Planted on}}, classification: public}}
"""
SCHEMA = """\
{{"type": "record", "name": "{name}", "namespace": "civicbus.gardens", "fields": [
  {{"name": "tree_no", "type": "string"}}, {{"name": "species", "type": ["null", "string"], "default": null}},
  {{"name": "planted_on", "type": {{"type": "int", "logicalType": "date"}}}}]}}
"""
AGREEMENT = """\
id: {name}_for_watch
subscriber: watch
purpose: {{zh: 试验, en: A trial}}
legal_basis: none, a test
owner_consents: [{{department: gardens, by: the test, date: 2026-01-01}}]
valid_from: 2026-01-01
valid_until: 2099-12-31
delivery: {{table: true}}
freshness_s: 60
select: SELECT t.tree_no, t.species, t.planted_on FROM gardens.{name} AS t
"""
PROGRAM = """\
import csv, sys
from datetime import date
from pathlib import Path
from civicbus.names import DatasetId
from civicbus.producers.publisher import Publisher
from civicbus.schemas.catalogue_files import load_catalogue
catalogue, home, wanted, gone = sys.argv[1:]
dataset = load_catalogue(Path(catalogue)).datasets[DatasetId.parse("gardens.sdk")]
with Publisher.at(Path(home), dataset, spool=Path(wanted).with_suffix(".spool")) as publisher:
    for row in csv.DictReader(open(wanted, newline="")):
        row["species"], row["planted_on"] = row["species"] or None, date.fromisoformat(row["planted_on"])
        publisher.upsert(row)
    publisher.delete({"tree_no": gone})
"""


def rows_after(change: int) -> Rows:
    """What is in the department's records after so many changes; each of them changes thirty and deletes one."""
    rows: Rows = {}
    for number in range(1, change + 1):
        for tree in range(number * 10, number * 10 + 30):
            rows[f"T{tree:03}"] = (f"T{tree:03}", None if tree % 7 == 0 else f"树 {number}", date(2026, 1, number))
        rows.pop(f"T{number * 10:03}")
    return rows


def changed_by(change: int) -> Rows:
    before, after = rows_after(change - 1), rows_after(change)
    return {key: row for key, row in after.items() if before.get(key) != row}


class City:
    """The platform, what the department has on it, and what the subscriber sees."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.catalogue = folder, folder / "home", folder / "catalogue"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("CIVICBUS_")}
        self.environment["CIVICBUS_HOME"] = str(self.home)

    def run(self, *words: str, stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from civicbus.cli.main import main; main()", *words],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def begin(self) -> None:
        self._describe()
        self.run("up", "--detach")
        self.run("department", "add", GARDENS)
        self.run("department", "add", WATCH)
        self.run("catalogue", "apply", str(self.catalogue))
        agreed = [str(self.folder / f"{way}.yaml") for way in WAYS]
        self.run("agreements", "apply", *agreed)
        endpoints, secrets = Endpoints.load(self.home), SecretStore(secrets_folder(self.home))
        self.platform = Platform(home=self.home, endpoints=endpoints, secrets=secrets, shared=False)
        self.gardens, self.watch = (
            connect(endpoints, secrets.read(principal_of(department))) for department in (GARDENS, WATCH)
        )
        for way in ("outbox", "capture"):
            self.gardens.execute(
                f"CREATE TABLE {way} (tree_no text PRIMARY KEY, species text, planted_on date NOT NULL)"
            )
        self.gardens.commit()
        self._begin_outbox()
        self._begin_capture()
        self._begin_folder_and_ingress()

    def _describe(self) -> None:
        place = self.catalogue / GARDENS
        place.mkdir(parents=True)
        (self.catalogue / WATCH).mkdir()
        for department in (GARDENS, WATCH):
            (self.catalogue / department / "department.yaml").write_text(DEPARTMENT.format(name=department))
        for way in WAYS:
            captured = "capture: {table: public.capture}\n" if way == "capture" else ""
            (place / f"{way}.yaml").write_text(ENTRY.format(name=way) + captured)
            (place / f"{way}.avsc").write_text(SCHEMA.format(name=way))
            (self.folder / f"{way}.yaml").write_text(AGREEMENT.format(name=way))

    def _begin_outbox(self) -> None:
        self.run("sql", GARDENS, "-c", self.run("outbox", "sql", "gardens.outbox", "--table", "outbox"))
        self.run("outbox", "add", GARDENS)

    def _begin_capture(self) -> None:
        with superuser(self.platform, GARDENS) as administrator:
            role = make_role(administrator, GARDENS)
            captured = load_catalogue(self.catalogue).datasets[DatasetId(GARDENS, "capture")]
            prepare_table(administrator, captured, role, "public.capture")
        where = connection_string(self.platform, GARDENS, role)
        self.run("capture", "add", "gardens.capture", "--database", "-", stdin=where)

    def _begin_folder_and_ingress(self) -> None:
        where = ["--folder", str(self.folder / "drop"), "--catalogue", str(self.catalogue)]
        self.run("folder", "add", GARDENS, *where)
        self.key = self.run("ingress", "key", GARDENS).split()[-1]
        self.url = self.run("ingress", "url").strip()

    # The department's own artefacts.

    def work(self, change: int) -> None:
        """The changes of this number by every way at once, each way as patient as its users are."""
        with ThreadPoolExecutor() as pool:
            ways = [self.by_sdk, self.by_table, self.by_http, self.by_folder]
            for done in [pool.submit(way, change) for way in ways]:
                done.result()

    def by_sdk(self, change: int) -> None:
        wanted = self._file(self.folder / f"sdk{change}.csv", changed_by(change))
        program = [sys.executable, "-c", PROGRAM, *map(str, (self.catalogue, self.home, wanted)), f"T{change * 10:03}"]
        with subprocess.Popen(program) as first:
            with suppress(subprocess.TimeoutExpired):
                first.wait(1.2)
            first.kill()
        assert subprocess.run(program, timeout=60, check=False).returncode == 0

    def by_table(self, change: int) -> None:
        for row in changed_by(change).values():
            for way in ("outbox", "capture"):
                self.gardens.execute(
                    f"INSERT INTO {way} VALUES (%s, %s, %s) ON CONFLICT (tree_no) DO UPDATE "
                    "SET species = excluded.species, planted_on = excluded.planted_on",
                    row,
                )
            self.gardens.commit()
        for way in ("outbox", "capture"):
            self.gardens.execute(f"DELETE FROM {way} WHERE tree_no = %s", (f"T{change * 10:03}",))
        self.gardens.commit()

    def by_http(self, change: int) -> None:
        for tree_no, species, planted_on in changed_by(change).values():
            record = {"tree_no": tree_no, "species": species, "planted_on": planted_on.isoformat()}
            self._send("PUT", "", f"{change}-{tree_no}", record)
        self._send("DELETE", f"/T{change * 10:03}", f"{change}-gone", None)

    def _send(self, method: str, path: str, event: str, record: dict[str, object] | None) -> None:
        headers = {"Authorization": f"Bearer {self.key}", "Idempotency-Key": event}

        def taken() -> bool:
            try:
                answer = httpx.request(
                    method,
                    f"{self.url}/v1/datasets/gardens.http/records{path}",
                    json=record,
                    headers=headers,
                    timeout=30,
                )
            except httpx.TransportError:
                return False
            assert answer.status_code in {202, 503}, answer.text
            return answer.status_code == 202

        until(taken, f"{method} {event} is taken", 60)

    def by_folder(self, change: int) -> None:
        part = self._file(self.folder / "drop" / "folder.csv.part", rows_after(change))
        part.rename(part.with_suffix(""))
        until(lambda: len(list((self.folder / "drop" / "done").glob("*/result.txt"))) == change, "the result", 90)

    def _file(self, path: Path, rows: Rows) -> Path:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerows([("tree_no", "species", "planted_on"), *rows.values()])
        return path

    # What an accident and an auditor do.

    def kill(self, name: str) -> None:
        """As soon as the process runs."""
        pid = until(lambda: self._pid(name), f"{name} runs", 90)
        os.kill(pid, signal.SIGKILL)

    def _pid(self, name: str) -> int | None:
        view = platform_view(self.home)
        assert view is not None
        return next((process.pid for process in view.processes if process.name == name), None)

    def table(self, way: str) -> Rows:
        rows = self.watch.execute(f"SELECT tree_no, species, planted_on FROM inbox.{way}_for_watch").fetchall()
        self.watch.commit()
        return {str(row[0]): row for row in rows}

    def repeated(self, way: str) -> list[bytes | None]:
        """The keys of the rows that came twice in succession."""
        last: dict[bytes | None, bytes | None] = {}
        found = []
        for record in self.records(inbox_topic(WATCH, AgreementId(f"{way}_for_watch"))):
            if record.key in last and last[record.key] == record.value:
                found.append(record.key)
            last[record.key] = record.value
        return found

    def records(self, topic: Topic) -> list[Record]:
        credentials = self.platform.secrets.read(OPERATOR)
        with AssignedReader(self.platform.endpoints, credentials, group="platform.test") as reader:
            return list(read_all(reader, partitions_of(reader, topic)))


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    city = City(tmp_path)
    yield city
    for session in (getattr(city, "gardens", None), getattr(city, "watch", None)):
        if session is not None:
            session.close()
    if holder(city.home) is not None:
        city.run("down")
    wipe(city.home)


def test_every_way_ends_in_the_subscribers_table_though_its_processes_are_killed_five_times(city: City) -> None:
    city.begin()
    processes = ("outbox-gardens", "capture-gardens", "folder-gardens", "ingress")
    with ThreadPoolExecutor() as pool:
        for change in range(1, KILLS + 1):
            working = pool.submit(city.work, change)
            for name in processes if change != 3 else (*processes, "connect-gardens"):
                city.kill(name)
            working.result()
    for way in WAYS:
        until(partial(lambda way: city.table(way) == rows_after(KILLS), way), f"the table of {way}", 120)
        assert city.repeated(way) == []
        assert city.records(DatasetId(GARDENS, way).quarantine) == []
