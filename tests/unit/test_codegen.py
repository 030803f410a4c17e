"""The generated module: the same each time, and what mypy then says of a program that uses it."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from civicbus.cli.schemas import datasets_of
from civicbus.errors import ConfigurationError
from civicbus.names import DatasetId
from civicbus.schemas.catalogue_files import load_catalogue, shipped_catalogue
from civicbus.schemas.codec.rows import RowCodec
from civicbus.schemas.codec.schema import AvroSchema
from civicbus.schemas.codegen import module_of
from civicbus.schemas.datasets import Classification, Dataset, Field, Quality, Title
from support.samples import permits

EVERY_TYPE = {
    "type": "record",
    "name": "thing",
    "fields": [
        {"name": "class", "type": "string"},
        {"name": "a", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}]},
        {"name": "b", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "c", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "d", "type": {"type": "enum", "name": "kind", "symbols": ["X", "Y"]}},
        {"name": "e", "type": {"type": "array", "items": {"type": "record", "name": "part", "fields": [
            {"name": "__x", "type": "int"}, {"name": "size", "type": ["null", "double"], "default": None}]}}},
        {"name": "f", "type": {"type": "map", "values": "boolean"}},
        {"name": "g", "type": {"type": "fixed", "name": "four", "size": 4}},
        {"name": "h", "type": {"type": "int", "logicalType": "time-millis"}},
    ],
}  # fmt: skip

USE = """
import datetime, decimal, uuid
from collections.abc import Mapping
from things import ThingPart, Thing, ThingKey, Permits, PermitsKey

def upsert(record: Mapping[str, object]) -> None: ...

part: ThingPart = {"__x": 1}
thing: Thing = {
    "class": "c", "a": decimal.Decimal(1), "b": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
    "c": uuid.uuid4(), "d": "X", "e": [part], "f": {"yes": True}, "g": b"1234", "h": datetime.time(1),
}
key: ThingKey = {"class": "c"}
permit: Permits = {"permit_no": "A", "status": "new"}
for record in (thing, key, permit):
    upsert(record)
"""


WRONG = """\
one: Permits = {"permit_no": "A"}
two: Permits = {"permit_no": "A", "status": "unknown"}
three: Permits = {"permit_no": "A", "status": None}
four: Permits = {"permit_no": 5, "status": "new"}
five: Permits = {"permit_no": "A", "status": "new", "fax": "1"}
six: Permits = {"permit_no": "A", "status": "new", "score": "many"}
"""


def things() -> Dataset:
    schema = AvroSchema.parse(json.dumps(EVERY_TYPE))
    awkward = Title(zh='引"""号\\', en='Ends in a quote"')
    fields = tuple(Field(name=name, title=awkward, classification=Classification.PUBLIC) for name in schema.field_names)
    return replace(
        permits(),
        id=DatasetId.parse("construction.thing"),
        title=awkward,
        key=("class",),
        fields=fields,
        schemas=(schema,),
    )


def mypy(folder: Path, program: str, modules: str) -> list[str]:
    (folder / "things.py").write_text(modules, encoding="utf-8")
    (folder / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", "program.py", "things.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()


def described() -> list[Dataset]:
    sample = permits()
    qualities = {"status": Quality(required=True, allowed=("new", "approved"))}
    fields = tuple(replace(one, quality=qualities.get(one.name, Quality())) for one in sample.fields)
    return [things(), replace(sample, fields=fields)]


def test_what_the_publisher_would_refuse_and_nothing_else_is_found_before_the_program_runs(tmp_path):
    found = mypy(tmp_path, f"{USE}{WRONG}", module_of(described(), "civicbus"))
    first = USE.count("\n") + 1
    assert sorted({int(line.split(":")[1]) - first for line in found}) == list(range(WRONG.count("\n"))), found


def run(folder: Path, name: str, text: str) -> dict[str, object]:
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return runpy.run_path(str(folder / f"{name}.py"))


def test_the_module_is_the_same_each_time_and_runs_for_every_department_of_the_catalogue(tmp_path):
    datasets = load_catalogue(shipped_catalogue()).datasets
    for department in {one.department for one in datasets}:
        owned = [dataset for name, dataset in datasets.items() if name.department == department]
        text = module_of(owned, "civicbus")
        assert text == module_of(owned, "civicbus")
        names = run(tmp_path, department, text)
        assert len([name for name in names if name[0].isupper()]) == 2 * len(owned)


def test_a_record_of_every_type_is_one_that_the_publisher_takes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    run(tmp_path, "things", module_of(described(), "civicbus"))
    names = run(tmp_path, "program", USE)
    assert RowCodec(things().schema).encode(names["thing"])
    assert RowCodec(permits().schema).encode(names["permit"])


def test_two_datasets_whose_names_would_make_one_class_get_two(tmp_path):
    one, two = (replace(permits(), id=DatasetId.parse(f"construction.{name}")) for name in ("a_1", "a1"))
    assert {"A1", "A1_"} <= run(tmp_path, "made", module_of([one, two], "civicbus")).keys()


@pytest.mark.parametrize("department", ["nobody", "Not a name"])
def test_a_department_without_datasets_is_told_which_have_some(department):
    with pytest.raises(ConfigurationError):
        datasets_of(department, None)
