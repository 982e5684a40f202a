# SPDX-License-Identifier: GPL-2.0-only
"""When a page is touched: a pure function of (salt, page, time), so that no state grows with the memory.

RANDOM is a Poisson process for each page: time is cut into buckets in which half a touch is expected; a hash of (salt,
page, bucket) says how many touches the bucket has (at most 4: that loses 0.04 % of them) and where in it they are.
SWEEP is a loop over an array: a page is touched exactly once each 1/rate, together with its 63 neighbours in the
window, at a moment that a hash of the window gives.

Both are fixed points in time. So an answer never flips back: what was touched in [a, b) was touched in [a, c), c > b.
"""

from __future__ import annotations

import math
from enum import Enum

import numpy as np
import numpy.typing as npt

Pages = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Rhythm(Enum):
    """How touches of one page follow each other."""

    RANDOM = "random"
    """Memoryless, each page on its own: a hash table under load."""
    SWEEP = "sweep"
    """Regular, neighbours together: a loop over an array."""


BUCKET_TOUCHES = 0.5
"""Touches expected in a bucket."""
SATURATED = {Rhythm.RANDOM: 30.0, Rhythm.SWEEP: 1.001}
"""Expected touches above which a page counts as touched without asking: the error is e^-30, or rounding."""
_POSITIONS = 4096  # places in a bucket where a touch can be: 12 bits of the hash for each of 4 touches
# P(N >= 1), ..., P(N >= 4) of a Poisson distribution in 65536ths, compared with the upper 16 bits of the hash
_AT_LEAST = [round(65536 * (1 - sum(math.exp(-BUCKET_TOUCHES) * BUCKET_TOUCHES**n / math.factorial(n)
                                    for n in range(least)))) for least in (1, 2, 3, 4)]
_WORD = 2**64 - 1
_PAGE_KEY, _TIME_KEY = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)


def mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble 64-bit values in place (the finaliser of splitmix64)."""
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def fractions(pages: Pages, salt: int) -> Floats:
    """A fixed number in [0, 1) for each page: shape of `pages`."""
    hashed = mix(pages.astype(np.uint64) * _PAGE_KEY + np.uint64(salt & _WORD))
    return (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def touched(rhythm: Rhythm, pages: Pages, rates_hz: Floats, after_ns: Times, until_ns: Times | np.int64, salt: int
            ) -> Flags:
    """Which pages are touched in [after_ns, until_ns).

    Args:
        rhythm: How touches follow each other.
        pages: Any shape.
        rates_hz: Touches a second of one page; broadcastable to the shape of `pages`, as the times are.
        after_ns: Start of the interval, int64.
        until_ns: End of the interval, int64; nothing is touched in an interval that ends before it starts.
        salt: Another salt is another program.

    Returns:
        Shape of `pages`.
    """
    if rhythm is Rhythm.SWEEP:
        moment = fractions(pages >> 6, salt)
        return np.floor(until_ns * (rates_hz * 1e-9) - moment) > np.floor(after_ns * (rates_hz * 1e-9) - moment)
    return _touched_at_random(pages, rates_hz * (1e-9 / BUCKET_TOUCHES), after_ns, until_ns, salt)


def _touched_at_random(pages: Pages, speed: Floats, after_ns: Times, until_ns: Times | np.int64, salt: int) -> Flags:
    begin, end = np.broadcast_arrays(after_ns * speed, until_ns * speed)
    hit = np.broadcast_to(end - begin > SATURATED[Rhythm.RANDOM] / BUCKET_TOUCHES, pages.shape).flatten()
    todo = np.flatnonzero(np.broadcast_to(end > begin, pages.shape).reshape(-1) & ~hit)
    if not todo.size:
        return hit.reshape(pages.shape)
    bucket = np.broadcast_to(np.floor(begin), pages.shape).reshape(-1)[todo]
    low = (np.broadcast_to(begin, pages.shape).reshape(-1)[todo] - bucket) * _POSITIONS
    end = np.broadcast_to(end, pages.shape).reshape(-1)[todo]
    keys = pages.reshape(-1)[todo].astype(np.uint64) * _PAGE_KEY + np.uint64(salt & _WORD)
    while todo.size:
        high = (end - bucket) * _POSITIONS  # above _POSITIONS: the whole bucket
        found = _any_touch(mix(keys + bucket.astype(np.uint64) * _TIME_KEY), low, high)
        hit[todo[found]] = True
        more = np.flatnonzero(~found & (high > _POSITIONS))
        todo, keys, bucket, end = todo[more], keys[more], bucket[more] + 1, end[more]
        low = np.zeros(more.size)
    return hit.reshape(pages.shape)


def _any_touch(hashed: npt.NDArray[np.uint64], low: Floats, high: Floats) -> Flags:
    """Whether the buckets with these hashes have a touch in [low, high) of their _POSITIONS."""
    count = hashed >> np.uint64(48)
    found: Flags = count < np.uint64(_AT_LEAST[0])
    some = np.flatnonzero(found & ((low > 0) | (high < _POSITIONS)))  # of the others the whole bucket is asked for
    if some.size:
        count, hashed, low, high = count[some], hashed[some], low[some], high[some]
        inside = np.zeros(some.size, bool)
        for nth, least in enumerate(_AT_LEAST):
            where = (hashed >> np.uint64(12 * nth)) & np.uint64(_POSITIONS - 1)
            inside |= (count < np.uint64(least)) & (where >= low) & (where < high)
        found[some] = inside
    return found


def chance(rhythm: Rhythm, touches: Floats) -> Floats:
    """The probability that a page is touched in an interval in which this many touches are expected."""
    return np.minimum(touches, 1.0) if rhythm is Rhythm.SWEEP else -np.expm1(-touches)
