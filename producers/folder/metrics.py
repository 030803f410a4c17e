"""What the folder process counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

FILES = Counter("civicbus_folder_files_total", "Dropped files by what became of them", ["outcome"])
ROWS = Counter("civicbus_folder_rows_total", "Rows of dropped files by what became of them", ["dataset", "outcome"])
WAITING = Gauge("civicbus_folder_waiting_files", "Files that are taken up and not finished")
