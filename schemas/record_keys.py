"""The record keys that stand in decoded rows."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from civicbus.keys import canonical_text, joined_key


def record_keys(columns: Sequence[pl.Series]) -> list[bytes | None]:
    """The key that each row names by these columns; None where one of them is null or empty."""
    if len(columns) == 1:
        texts = columns[0] if columns[0].dtype == pl.String else _canonical(columns[0])
        found: list[bytes | None] = texts.cast(pl.Binary).to_list()
        return [key or None for key in found] if b"" in found else found
    each = [series.to_list() if series.dtype == pl.String else _canonical(series).to_list() for series in columns]
    return [joined_key(texts) if all(texts) else None for texts in zip(*each, strict=True)]


def _canonical(column: pl.Series) -> pl.Series:
    texts = [None if value is None else canonical_text(value) for value in column.to_list()]
    return pl.Series(texts, dtype=pl.String)
