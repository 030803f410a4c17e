"""The real records that lie beside the project; a test that needs them is skipped, by name, where they are not."""

from pathlib import Path

import polars as pl
import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "chicago"

needs_chicago = pytest.mark.skipif(not FOLDER.is_dir(), reason="the records of Chicago do not lie beside the project")


def texts(file: str) -> pl.DataFrame:
    """A file as it stands, every cell a text, an empty one null."""
    return pl.read_csv(FOLDER / file, infer_schema=False)
