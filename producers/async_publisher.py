"""The publisher for asyncio programs: the same calls, awaited, on the same publisher.

Promise: a call never stops the event loop. It goes straight through while there is room, and waits in a thread where
the publisher would wait; calls of several tasks are taken in the order in which they came.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Self

from civicbus.producers.outlet import Receipt
from civicbus.producers.publisher import Publisher
from civicbus.producers.spooling import SPOOL_BYTES
from civicbus.reasons import Reason
from civicbus.schemas.datasets import Dataset
from civicbus.transport.outgoing import DELIVERY_S, Position

__all__ = ["AsyncPublisher", "AsyncReceipt"]


class AsyncReceipt:
    """The coming answer of the broker for one change: await it for partition and offset, or what it failed with."""

    __slots__ = ("_receipt",)

    def __init__(self, receipt: Receipt) -> None:
        self._receipt = receipt

    @property
    def event_id(self) -> str:
        return self._receipt.event_id

    @property
    def sequence(self) -> int | None:
        return self._receipt.sequence

    @property
    def done(self) -> bool:
        """Whether awaiting it would not wait."""
        return self._receipt.done

    def __await__(self) -> Generator[object, None, Position]:
        return self._position().__await__()

    async def _position(self) -> Position:
        if not self._receipt.done:
            loop = asyncio.get_running_loop()
            answered = asyncio.Event()

            def tell() -> None:
                with suppress(RuntimeError):  # the loop was closed meanwhile, and nobody waits any more
                    loop.call_soon_threadsafe(answered.set)

            self._receipt.when_done(tell)
            await answered.wait()
        return self._receipt.result(0)


class AsyncPublisher:
    """A publisher's calls for the tasks of one event loop.

    A call that is cancelled while it waits may still publish its change.
    """

    def __init__(self, publisher: Publisher) -> None:
        """Over a publisher that nobody else uses; it is closed with this."""
        self._publisher = publisher
        self._turn = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def at(
        cls, home: Path, dataset: Dataset, *, spool: Path | None = None, spool_bytes: int = SPOOL_BYTES
    ) -> AsyncIterator[Self]:
        """A publisher on the platform that this home belongs to, open for a block; see ``Publisher.at``."""
        opened = await asyncio.to_thread(Publisher.at, home, dataset, spool=spool, spool_bytes=spool_bytes)
        async with cls(opened) as publisher:
            yield publisher

    async def upsert(
        self,
        record: Mapping[str, object],
        *,
        sequence: int | None = None,
        event_id: str | None = None,
        time: datetime | None = None,
    ) -> AsyncReceipt:
        """Publish the current state of a record; raises Unacceptable, naming the field, where it cannot be one."""
        return await self._in_turn(
            partial(self._publisher.upsert, record, sequence=sequence, event_id=event_id, time=time)
        )

    async def delete(
        self,
        key: Mapping[str, object],
        *,
        sequence: int | None = None,
        event_id: str | None = None,
        time: datetime | None = None,
    ) -> AsyncReceipt:
        """Publish that a record is gone; ``key`` has its key fields, or is the record itself."""
        return await self._in_turn(
            partial(self._publisher.delete, key, sequence=sequence, event_id=event_id, time=time)
        )

    async def report_unsendable(
        self, row: Mapping[str, str | None], reason: Reason, field: str | None = None
    ) -> AsyncReceipt:
        """Have a row that cannot be sent parked in the dataset's quarantine, under this reason."""
        return await self._in_turn(partial(self._publisher.report_unsendable, row, reason, field))

    def waiting(self) -> int:
        """How many changes the broker has not acknowledged yet."""
        return self._publisher.waiting()

    async def flush(self, timeout_s: float = DELIVERY_S) -> None:
        """Wait until the broker has all that was sent so far; raises what failed, naming the events."""
        await asyncio.to_thread(self._publisher.flush, timeout_s)

    async def close(self) -> None:
        """Flush and disconnect."""
        await asyncio.to_thread(self._publisher.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _in_turn(self, call: Callable[[], Receipt]) -> AsyncReceipt:
        async with self._turn:
            if self._publisher.would_wait():
                return AsyncReceipt(await asyncio.to_thread(call))
            return AsyncReceipt(call())
