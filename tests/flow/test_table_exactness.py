"""A subscriber's table equals its inbox, whatever is killed or put to sleep while both move."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from civicbus.names import AgreementId
from support.inboxes import InboxWriter, eventually, schema
from support.tables import Sink, Tables

ROW = schema(("version", "long"), ("text", "string"))
AGREEMENT = AgreementId("permits")
KEYS = 400


class Traffic:
    """Writes an inbox without pause: upserts, deletions, aborted transactions; remembers what is true."""

    def __init__(self, writer: InboxWriter, seed: int) -> None:
        self._writer = writer
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self.truth: dict[str, dict[str, object]] = {}
        self.version = 0
        self._thread.start()

    def _write(self) -> None:
        while not self._stop.is_set():
            commit = self._random.random() < 0.8
            rows = dict(self._changes(self._random.randrange(1, 200)))
            self._writer.write(rows, commit=commit)
            if commit:
                self.truth.update({key: row for key, row in rows.items() if row is not None})
                for key in [key for key, row in rows.items() if row is None]:
                    self.truth.pop(key, None)

    def _changes(self, count: int) -> Iterator[tuple[str, dict[str, object] | None]]:
        for _ in range(count):
            key = f"key {self._random.randrange(KEYS)}"
            self.version += 1
            gone = self._random.random() < 0.2
            yield key, None if gone else {"version": self.version, "text": f"text of {key}"}

    def end(self) -> dict[str, dict[str, object]]:
        self._stop.set()
        self._thread.join()
        return self.truth


@pytest.fixture
def member(new_department):
    return new_department("exact")


@pytest.fixture
def tables(platform, member) -> Tables:
    return Tables(platform.endpoints, platform.secrets, member.id)


@pytest.fixture
def traffic(platform, member) -> Iterator[Traffic]:
    with InboxWriter(
        platform.endpoints, platform.secrets, department=member.id, agreement=AGREEMENT, schema=ROW, partitions=3
    ) as writer:
        running = Traffic(writer, seed=7)
        yield running
        running.end()


class Watcher:
    """A reader of the table: for no key may it see an older version after a newer one."""

    def __init__(self, tables: Tables) -> None:
        self.broken: list[str] = []
        self._tables = tables
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        newest: dict[str, int] = {}
        while not self._stop.is_set():
            for key, row in self._tables.rows(AGREEMENT).items():
                if row["version"] < newest.get(key, 0):
                    self.broken.append(f"{key}: {row['version']} after {newest[key]}")
                newest[key] = max(row["version"], newest.get(key, 0))

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def progress(tables: Tables) -> int:
    return int(tables.value("SELECT coalesce(sum(position), 0) FROM civicbus.positions"))


def moves_on(tables: Tables) -> None:
    before = progress(tables)
    eventually(lambda: progress(tables) > before)


def test_a_sink_that_is_killed_at_any_moment_leaves_nothing_out_and_nothing_twice(
    platform, member, tables, traffic, tmp_path
) -> None:
    chance = random.Random(11)
    with Sink(platform.home, member.id, tmp_path / "log") as sink:
        eventually(lambda: tables.rows(AGREEMENT))
        with Watcher(Tables(platform.endpoints, platform.secrets, member.id)) as watcher:
            for _ in range(5):
                moves_on(tables)
                time.sleep(chance.random() * 0.5)  # a random moment, not a wait for something
                sink.process.send_signal(signal.SIGKILL)
                sink.again()
            moves_on(tables)
            tables.become(AGREEMENT, traffic.end())
    assert watcher.broken == []


def test_a_rebuild_that_is_killed_on_its_way_goes_on_and_shows_nothing_older(
    platform, member, tables, traffic, tmp_path
) -> None:
    with Sink(platform.home, member.id, tmp_path / "log") as sink:
        eventually(lambda: tables.value("SELECT state FROM civicbus.inboxes") == "current")
        moves_on(tables)
        with Watcher(Tables(platform.endpoints, platform.secrets, member.id)) as watcher:
            for _ in range(3):
                sink.process.send_signal(signal.SIGKILL)
                sink.process.wait(30)
                tables.session.execute("UPDATE civicbus.inboxes SET topic_id = 'another'")
                sink.again()
                moves_on(tables)
            tables.become(AGREEMENT, traffic.end())
        eventually(lambda: tables.value("SELECT state FROM civicbus.inboxes") == "current")
    assert watcher.broken == []


def test_twins_do_not_disturb_each_other_and_one_that_slept_is_fenced(
    platform, member, tables, traffic, tmp_path
) -> None:
    chance = random.Random(13)
    with (
        Sink(platform.home, member.id, tmp_path / "one") as one,
        Sink(platform.home, member.id, tmp_path / "other") as other,
    ):
        eventually(lambda: tables.rows(AGREEMENT))
        for sleeper in (one, other, one, other):
            time.sleep(chance.random() * 0.3)  # a random moment, not a wait for something
            sleeper.process.send_signal(signal.SIGSTOP)
            try:
                moves_on(tables)
                moves_on(tables)
            finally:
                sleeper.process.send_signal(signal.SIGCONT)
            moves_on(tables)
        tables.become(AGREEMENT, traffic.end())
        assert one.process.poll() is None
        assert other.process.poll() is None
    assert "another instance" in text_of(tmp_path / "one") + text_of(tmp_path / "other")


def text_of(log: Path) -> str:
    return log.read_text()
