# SPDX-License-Identifier: GPL-2.0-only
"""Evidence: do two sets of pages behave alike? Likelihood ratios, vectorised.

G = 2 * (log-likelihood of two separate shares, or rates, - log-likelihood of a common one) is, where both sets are
alike, distributed as chi squared with one degree of freedom (Wilks 1938): above 10.8 in one case of a thousand.
"""

from __future__ import annotations

from collections.abc import Callable

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


def split_gains(hits: Floats, trials: Floats, first: npt.NDArray[np.intp], owner: npt.NDArray[np.intp],
                likelihood: Likelihood = log_likelihood) -> Floats:
    """How much better each region is described as two, cut behind each of its windows.

    Args:
        hits: Of each window, shape (w,), windows in address order.
        trials: Of each window, shape (w,).
        first: First window of each region, shape (n,). No region is empty.
        owner: Region of each window, shape (w,).
        likelihood: Of hits in trials, or of touches in an exposure.

    Returns:
        G of the cut behind each window, shape (w,); behind a region's last window it is 0.
    """
    def sums(values: Floats) -> tuple[Floats, Floats]:
        running = np.cumsum(values)
        before = running[first] - values[first]
        left = running - before[owner]
        return left, np.add.reduceat(values, first)[owner] - left

    left_hits, right_hits = sums(hits)
    left_trials, right_trials = sums(trials)
    return disagreement(left_hits, left_trials, np.maximum(right_hits, 0), np.maximum(right_trials, 0), likelihood)


def island_gains(touches: Floats, exposure: Floats, first: npt.NDArray[np.intp], owner: npt.NDArray[np.intp],
                 length: int) -> Floats:
    """How much better each region is described as an island of so many windows and the rest of it.

    No single cut finds a small island in the middle of a large region: most of what it would part is alike.

    Args:
        touches: Of each window, shape (w,), windows in address order.
        exposure: Of each window, shape (w,).
        first: First window of each region, shape (n,). No region is empty.
        owner: Region of each window, shape (w,).
        length: Of the island, in windows.

    Returns:
        G of the island that begins at each window, shape (w,); 0 where it would reach beyond its region, or be it.
    """
    count = len(touches) - length + 1
    gains = np.zeros(len(touches))
    if count <= 0:
        return gains
    begin = np.flatnonzero(owner[:count] == owner[length - 1:])
    region = owner[begin]

    def parts(values: Floats) -> tuple[Floats, Floats]:
        running = np.concatenate(([0.0], np.cumsum(values)))
        inside = running[begin + length] - running[begin]
        return inside, np.maximum(np.add.reduceat(values, first)[region] - inside, 0)

    (touched, others), (watched, rest) = parts(touches), parts(exposure)
    gains[begin] = disagreement(touched, watched, others, rest, rate_log_likelihood)
    gains[begin[rest <= 0]] = 0
    return gains
