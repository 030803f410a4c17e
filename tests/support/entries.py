"""A small catalogue's folder for tests, whole by itself, to be spoilt in one place."""

from pathlib import Path

DEPARTMENT = "id: parks\ntitle: {zh: 园林局, en: Parks}\ncode: YL\n"
ENTRY = """\
id: parks.trees
title: {zh: 树木, en: Trees}
listing:
  abstract: {zh: 每一棵行道树。, en: Every street tree.}
  openness: open
sharing: unconditional
update_cycle: daily
key: [tree_no]
fields:
  - name: tree_no
    title: {zh: 树号, en: Tree number}
    classification: public
    quality: {required: true, pattern: 'T[0-9]{4}'}
  - name: species
    title: {zh: 树种, en: Species}
    classification: public
    quality: {allowed: [oak, lime, 银杏], max_length: 20}
  - name: height_m
    title: {zh: 高度, en: Height}
    classification: public
    quality: {minimum: 0, maximum: 120}
  - name: planted_on
    title: {zh: 栽种日期, en: Planted on}
    classification: public
    headers: [种植日]
"""
SCHEMA = """\
{"type": "record", "name": "trees", "namespace": "civicbus.parks", "fields": [
  {"name": "tree_no", "type": "string"},
  {"name": "species", "type": ["null", "string"], "default": null},
  {"name": "height_m", "type": ["null", "double"], "default": null},
  {"name": "planted_on", "type": ["null", {"type": "int", "logicalType": "date"}], "default": null}
]}
"""


def write_catalogue(
    folder: Path, *, entry: str = ENTRY, schema: str | None = SCHEMA, department: str | None = DEPARTMENT, **others: str
) -> Path:
    """Write the folder; ``others`` are further files of the department, a ``__`` in a name standing for a dot."""
    parks = folder / "parks"
    parks.mkdir(parents=True, exist_ok=True)
    files = {"trees.yaml": entry, "trees.avsc": schema, "department.yaml": department}
    files |= {name.replace("__", "."): text for name, text in others.items()}
    for name, text in files.items():
        if text is not None:
            (parks / name).write_text(text, encoding="utf-8")
    return folder
