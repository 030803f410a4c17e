"""On which partition a record key stands: by murmur2, as every client of the bus places it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SEED, _MULTIPLIER = np.uint32(0x9747B28C), np.uint32(0x5BD1E995)
_WORD_BYTES = 4
_AT_ONCE_BYTES = 32 * 2**20


def places(keys: Sequence[bytes], partitions: int) -> NDArray[np.int64]:
    """The partition of each key in a topic that has so many."""
    width = (max(map(len, keys), default=0) // _WORD_BYTES + 1) * _WORD_BYTES
    at_once = max(1, _AT_ONCE_BYTES // width)
    hashes = [_murmur2(keys[start : start + at_once], width) for start in range(0, len(keys), at_once)]
    together = np.concatenate([np.empty(0, np.uint32), *hashes])
    placed: NDArray[np.int64] = (together & np.uint32(0x7FFFFFFF)).astype(np.int64) % partitions
    return placed


def _murmur2(keys: Sequence[bytes], width: int) -> NDArray[np.uint32]:
    """Kafka's hash of each key, a word of all of them at a time; ``width`` bytes hold any and a word of zeros."""
    lengths = np.fromiter(map(len, keys), np.int64, len(keys))
    whole = lengths // _WORD_BYTES
    words = np.array(keys, f"S{width}").view("<u4").reshape(len(keys), -1)
    hashed = lengths.astype(np.uint32) ^ _SEED
    for place in range(int(whole.max())):
        mixed = words[:, place] * _MULTIPLIER
        mixed = (mixed ^ mixed >> np.uint32(24)) * _MULTIPLIER
        hashed = np.where(place < whole, hashed * _MULTIPLIER ^ mixed, hashed)
    rest = words[np.arange(len(keys)), whole]
    hashed = np.where(lengths % _WORD_BYTES, (hashed ^ rest) * _MULTIPLIER, hashed)
    hashed = (hashed ^ hashed >> np.uint32(13)) * _MULTIPLIER
    return hashed ^ hashed >> np.uint32(15)
