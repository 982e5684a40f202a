# SPDX-License-Identifier: GPL-2.0-only
"""Evidence: do two sets of pages behave alike? Likelihood ratios, vectorised.

G = 2 * (log-likelihood of two separate shares, or rates, - log-likelihood of a common one) is, where both sets are
alike, distributed as chi squared with one degree of freedom (Wilks 1938): above 10.8 in one case of a thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

WITNESS = 1 / 16
"""Neighbouring pages are touched together: so many of them are one independent witness."""

Floats = npt.NDArray[np.float64]
Likelihood = Callable[[Floats, Floats], Floats]


def log_likelihood(hits: Floats, trials: Floats) -> Floats:
    """Largest log-likelihood of `hits` in `trials`; 0 * log 0 is 0. Any shape."""
    misses = trials - hits
    total = np.maximum(trials, 1e-12)
    return (hits * np.log(np.maximum(hits, 1e-12) / total)
            + misses * np.log(np.maximum(misses, 1e-12) / total))


def rate_log_likelihood(touches: Floats, exposure: Floats) -> Floats:
    """Largest log-likelihood of `touches` independent touches in that time of watching; what cancels is left out."""
    return touches * np.log(np.maximum(touches, 1e-12) / np.maximum(exposure, 1e-12))


def disagreement(hits_a: Floats, trials_a: Floats, hits_b: Floats, trials_b: Floats,
                 likelihood: Likelihood = log_likelihood) -> Floats:
    """G of two samples: 0 where one of them is empty, large where their shares cannot be the same. Any shape."""
    apart = likelihood(hits_a, trials_a) + likelihood(hits_b, trials_b)
    return np.maximum(2 * (apart - likelihood(hits_a + hits_b, trials_a + trials_b)), 0)


def share_error(hits: Floats, trials: Floats) -> Floats:
    """Standard error of the share of pages that are touched, of which `hits` of `trials` were. Any shape.

    Neighbouring pages are touched together: n probed pages make WITNESS * n independent witnesses (L. Kish, "Survey
    Sampling", 1965: the design effect of a cluster sample). The error of a share q is sqrt(q (1 - q) / n), with two
    hits and two misses added to what was seen, so that no hit in few trials is not taken for certainty (A. Agresti and
    B. Coull, 1998).
    """
    n = trials * WITNESS
    q = (hits * WITNESS + 2) / (n + 4)
    error: Floats = np.sqrt(q * (1 - q) / (n + 4))
    return error


class Sums(NamedTuple):
    """What windows in address order have seen, added up: of this the gains of all cuts are made."""

    owner: npt.NDArray[np.intp]
    """Region of each window, shape (w,)."""
    begin: npt.NDArray[np.intp]
    """First window of that region, shape (w,)."""
    running: Floats
    """Hits and trials of all windows before each one, and of all there are: shape (2, w + 1)."""
    whole: Floats
    """Hits and trials of each window's region, shape (2, w)."""
    as_one: Floats
    """Log-likelihood of that region where it is not cut, shape (w,)."""
    likelihood: Likelihood

    @classmethod
    def of(cls, hits: Floats, trials: Floats, first: npt.NDArray[np.intp], likelihood: Likelihood) -> Self:
        """Add up.

        Args:
            hits: Of each window, shape (w,).
            trials: Of each window, shape (w,).
            first: First window of each region, shape (n,). No region is empty.
            likelihood: Of hits in trials, or of touches in an exposure.
        """
        running = np.zeros((2, len(hits) + 1))
        np.cumsum((hits, trials), axis=1, out=running[:, 1:])
        end = np.append(first[1:], len(hits))
        whole = running[:, end] - running[:, first]
        owner = np.repeat(np.arange(len(first)), end - first)
        return cls(owner, first[owner], running, whole[:, owner], likelihood(*whole)[owner], likelihood)

    def gains(self, part: Floats, windows: slice) -> Floats:
        """G of some windows' regions as two: a part, hits and trials, shape (2, n), and what is left of the region."""
        rest = np.maximum(self.whole[:, windows] - part, 0)
        return np.maximum(2 * (self.likelihood(*part) + self.likelihood(*rest) - self.as_one[windows]), 0)


def split_gains(sums: Sums) -> Floats:
    """How much better each region is described as two, cut behind each of its windows.

    Returns:
        G of the cut behind each window, shape (w,); behind a region's last window it is 0.
    """
    every = slice(None)
    return sums.gains(sums.running[:, 1:] - sums.running[:, sums.begin], every)


def island_gains(sums: Sums, length: int) -> Floats:
    """How much better each region is described as an island of so many windows and the rest of it.

    No single cut finds a small island in the middle of a large region: most of what it would part is alike.

    Args:
        sums: Of all windows.
        length: Of the island, in windows.

    Returns:
        G of the island that begins at each window, shape (w,); 0 where it would reach beyond its region, or be it.
    """
    gains = np.zeros(len(sums.owner))
    count = len(gains) - length + 1
    if count <= 0:
        return gains
    inside = sums.running[:, length:] - sums.running[:, :count]
    whole_islands = (sums.owner[:count] == sums.owner[length - 1:]) & (inside[1] < sums.whole[1, :count])
    gains[:count] = np.where(whole_islands, sums.gains(inside, slice(count)), 0.0)
    return gains
