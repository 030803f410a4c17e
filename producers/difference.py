"""What has to be published so that the published rows become the rows of a table, and nothing more. Pure."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import polars as pl

KEY = "civicbus:key"
HASH = "civicbus:hash"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The rows of ``incoming`` that are new or changed, in their order, and the keys that are gone."""

    upserts: pl.DataFrame
    deletions: tuple[bytes, ...]


def difference(published: pl.DataFrame, incoming: pl.DataFrame, held: Set[bytes] | None) -> Difference:
    """Compare by :data:`KEY` and :data:`HASH`; each frame has a key once.

    ``held`` are keys that the table names although their rows cannot be sent: they stay as they are published.
    None means that the table holds only some of the records, so that nothing is deleted.
    """
    upserts = incoming.join(published, on=[KEY, HASH], how="anti", maintain_order="left")
    if held is None:
        return Difference(upserts=upserts, deletions=())
    gone = published.join(incoming, on=KEY, how="anti", maintain_order="left")[KEY]
    return Difference(upserts=upserts, deletions=tuple(key for key in gone if key not in held))
