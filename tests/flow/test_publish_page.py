"""The quick starts of docs/publish.md, followed literally, work."""

from __future__ import annotations

from support.changes import latest
from support.following import described, follow


def test_the_page_followed_literally_publishes_what_it_says(platform, gardens, tmp_path):
    said = follow("publish.md", platform, tmp_path, gardens)
    assert "3 rows: 3 new or changed, 0 deleted, 0 unchanged, 0 refused" in said
    assert "3 rows: 1 new or changed, 0 deleted, 2 unchanged, 0 refused" in said
    owned = described(platform, tmp_path / "my_catalogue", gardens)
    rows = {key.decode(): owned.row(change) for key, change in latest(owned.changes()).items()}
    assert rows["T0001"] is None
    assert {key: row["species"] for key, row in rows.items() if row} == {
        "T0002": "linden",
        "T0003": "银杏",
        "T0004": "oak",
    }
