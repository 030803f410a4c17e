"""How long to wait before the next try: longer each time up to a limit, and never in step with others. Pure."""

from __future__ import annotations

FIRST_S = 0.2
LONGEST_S = 30.0


def delay_s(attempt: int, jitter: float) -> float:
    """The wait after failure number ``attempt`` (from 0); ``jitter`` in [0, 1) spreads it by half."""
    return min(FIRST_S * 2.0 ** min(attempt, 16), LONGEST_S) * (0.5 + jitter / 2)
