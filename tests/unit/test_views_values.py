"""Values of rows, put, deleted, moved to a file and tidied in any order, are read as they were last put."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from civicbus.stream_apps.views import values
from civicbus.stream_apps.views.rows import Rows, RowsCopy
from civicbus.stream_apps.views.values import Mapped

KEYS = [f"k{number}".encode() for number in range(12)]
VALUES = st.one_of(st.none(), st.binary(min_size=1, max_size=40), st.just(b"x" * 300))
ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.lists(st.tuples(st.sampled_from(KEYS), VALUES), min_size=1, max_size=6)),
    st.tuples(st.just("free"), st.sets(st.sampled_from(KEYS), min_size=1, max_size=3)),
    st.tuples(st.just("copy")),
    st.tuples(st.just("move")),
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_PIECE_BYTES", 128)
    monkeypatch.setattr(values, "_LITTLE_BYTES", 64)
    monkeypatch.setattr(values, "_MOVED_AT_ONCE", 3)


class Held:
    """Rows of one partition, and beside them what they should be."""

    def __init__(self, folder: Path) -> None:
        self.rows, self.wanted = Rows(), dict[bytes, bytes | None]()
        self.folder, self.files = folder, 0
        self.copied: tuple[RowsCopy, dict[bytes, bytes | None]] | None = None

    def put(self, changes: list[tuple[bytes, bytes | None]]) -> None:
        slots = self.rows.slots(0, [key for key, _ in changes])
        self.rows.put(slots, [value for _, value in changes], [0] * len(changes), [0] * len(changes))
        self.wanted |= dict(changes)

    def free(self, keys: set[bytes]) -> None:
        known = [key for key in keys if key in self.wanted]
        self.rows.free(self.rows.slots(0, known))
        self.rows.reuse()
        for key in known:
            del self.wanted[key]

    def copy(self) -> None:
        self.copied = self.rows.copy(0, self.rows.causes.array), dict(self.wanted)

    def move(self) -> None:
        if self.copied is None:
            return
        (copied, were), self.copied = self.copied, None
        assert dict(zip(copied.keys, copied.values[:], strict=True)) == were
        self.rows.move_to_disk(0, copied, self.file(copied))
        self.rows.tidy()

    def file(self, copied: RowsCopy) -> Mapped:
        self.files += 1
        path = self.folder / f"{self.files}.arrow"
        column = pa.array(copied.values[:], pa.large_binary())
        batch = pa.RecordBatch.from_arrays([column], names=["value"])
        with pa.ipc.new_file(str(path), batch.schema) as writer:
            writer.write_batch(batch)
        mapped = Mapped(path)
        path.unlink()
        return mapped

    def check(self) -> None:
        slots = self.rows.slots(0, list(self.wanted))
        assert dict(zip(self.wanted, self.rows.values_of(slots), strict=True)) == self.wanted


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(ACTIONS, max_size=40))
def test_a_value_is_what_was_put_last_wherever_it_stands(tmp_path_factory, actions) -> None:
    held = Held(tmp_path_factory.mktemp("values"))
    for name, *arguments in actions:
        getattr(held, name)(*arguments)
        held.check()


def test_what_no_row_has_any_more_takes_no_memory(tmp_path: Path) -> None:
    held = Held(tmp_path)
    for _ in range(200):
        held.put([(key, b"y" * 30) for key in KEYS])
    assert held.rows.value_bytes_in_memory < 4 * 30 * len(KEYS)
    held.check()


def test_what_stands_in_a_file_takes_none(tmp_path: Path) -> None:
    held = Held(tmp_path)
    held.put([(key, b"z" * 30) for key in KEYS])
    held.copy()
    held.put([(KEYS[0], b"later"), (KEYS[1], None)])
    held.move()
    held.check()
    assert held.rows.value_bytes_in_memory <= 128
    values_of_all = held.rows.values_of(np.arange(len(KEYS)))
    assert values_of_all[:3] == [b"later", None, b"z" * 30]
