"""The demo over the real records of a city."""

from __future__ import annotations

from pathlib import Path

from civicbus.infra import postgres
from support.chicago import FOLDER, needs_chicago
from support.demo import finished, start


@needs_chicago
def test_the_records_of_chicago_arrive_whole(tmp_path: Path) -> None:
    summary = finished(start(tmp_path, "--data", str(FOLDER)), tmp_path)
    postgres.wipe(tmp_path)
    rows = {table["agreement"]: table["rows"] for table in summary["tables"]}
    assert rows["licence_terms"] == 15_514
    assert rows["inspections"] == 17_823
    assert rows["complaints"] == 55_167
    assert rows["license_register"] == 11_033
    assert summary["datasets"]["streets_sanitation.sanitation_complaints"]["repeated_keys"] == 176
    assert summary["refused"] == {"key_missing": 2}
    assert "inspection_visits.csv" in (tmp_path / "demo.log").read_text()
