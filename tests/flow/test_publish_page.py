"""The quick starts of docs/publish.md, followed literally, work."""

from __future__ import annotations

from support.changes import latest
from support.pages import followed, own_gardens, trees_of


def test_the_page_followed_literally_publishes_what_it_says(platform, tmp_path):
    with own_gardens(platform, tmp_path) as name:
        printed = followed("publish.md", name, platform, tmp_path)
        owned = trees_of(name, platform, tmp_path)
    assert "3 rows: 3 new or changed, 0 deleted, 0 unchanged, 0 refused" in printed
    assert "3 rows: 1 new or changed, 0 deleted, 2 unchanged, 0 refused" in printed
    rows = {key.decode(): owned.row(change) for key, change in latest(owned.changes()).items()}
    assert rows["T0001"] is None
    assert {key: row["species"] for key, row in rows.items() if row} == {
        "T0002": "linden",
        "T0003": "银杏",
        "T0004": "oak",
    }
