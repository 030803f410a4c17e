"""How many events a sender may send: a bucket that fills with time. Pure; the time is given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """``tokens`` at the moment ``at_s``; it fills by ``per_s`` up to ``most``."""

    per_s: float
    most: float
    tokens: float
    at_s: float

    def taken(self, count: int, now_s: float) -> tuple[Bucket, float]:
        """The bucket after so many events, and how long to wait first; while there is a wait nothing is taken."""
        tokens = min(self.most, self.tokens + (now_s - self.at_s) * self.per_s)
        wait_s = max(0.0, (count - tokens) / self.per_s)
        left = tokens if wait_s else tokens - count
        return Bucket(per_s=self.per_s, most=self.most, tokens=left, at_s=now_s), wait_s


def full(per_s: float, most: float, now_s: float) -> Bucket:
    """A bucket that nobody has taken from."""
    return Bucket(per_s=per_s, most=most, tokens=most, at_s=now_s)
