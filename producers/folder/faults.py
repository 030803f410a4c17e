"""Why a whole file is refused. The codes are the keys of the message catalogue, under ``faults``."""

from __future__ import annotations

from enum import StrEnum

from civicbus.errors import ConfigurationError


class Fault(StrEnum):
    """What a dropped file may have against it."""

    MISNAMED = "misnamed"
    UNKNOWN_DATASET = "unknown_dataset"
    OLD_WORKBOOK = "old_workbook"
    NO_FILE = "no_file"
    TOO_LARGE = "too_large"
    ENCODING = "encoding"
    QUOTES = "quotes"
    HEADER = "header"
    NO_ROWS = "no_rows"
    WORKBOOK_DAMAGED = "workbook_damaged"
    WORKBOOK_LOCKED = "workbook_locked"
    WORKBOOK_TOO_LARGE = "workbook_too_large"
    WORKBOOK_CELLS = "workbook_cells"
    WORKBOOK_UNSAFE = "workbook_unsafe"
    WORKBOOK_NO_SHEET = "workbook_no_sheet"
    ERROR_CELLS = "error_cells"


class FileRefused(ConfigurationError):
    """A dropped file cannot be published as a whole; ``values`` fill the message of its fault."""

    def __init__(self, fault: Fault, **values: str | int) -> None:
        super().__init__(f"the file is refused: {fault.value}")
        self.fault = fault
        self.values_shown = values
