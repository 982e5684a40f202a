# SPDX-License-Identifier: GPL-2.0-only
"""Numerical work in one process.

    load_science.py SLICES kmeans SIZE_BYTES      scikit-learn: mini-batch k-means over all rows, again and again
    load_science.py SLICES phases SIZE_BYTES      numpy: each eighth of an array for 8 s, then the next, and back
    load_science.py SLICES gather SIZE_BYTES      numpy: reads at random, all over the array
    load_science.py SLICES sparse SIZE_BYTES      numpy: the same on a quarter of it; of the rest, a page in 2 MiB, once
    load_science.py SLICES idle SIZE_BYTES        numpy: the first hundredth of an array, all the time
"""

import sys
import time

import numpy as np
from slices import Slices

COLUMNS, ROWS = 32, 4096
PARTS, PHASE_NS = 8, 8_000_000_000
READS = 1 << 14


def kmeans(slices, size):
    from sklearn.cluster import MiniBatchKMeans

    rng = np.random.default_rng(1)
    data = rng.random((size // (4 * COLUMNS), COLUMNS), dtype=np.float32)
    model = MiniBatchKMeans(n_clusters=8, random_state=1, n_init=1)
    while True:
        for first in range(0, len(data), ROWS):
            model.partial_fit(data[first:first + ROWS])
            slices().did(ROWS)


def phases(slices, size):
    data = np.ones(size // 8)
    parts = np.array_split(data, PARTS)
    while True:
        part = parts[time.monotonic_ns() // PHASE_NS % PARTS]
        for piece in np.array_split(part, max(1, part.nbytes >> 20)):
            np.multiply(piece, 1.0000001, out=piece)
            slices().did(piece.nbytes // 4096)


def idle(slices, size):
    data = np.ones(size // 8)
    part = data[:len(data) // 100]
    while True:
        np.multiply(part, 1.0000001, out=part)
        slices().did(part.nbytes // 4096)


def sparse(slices, size):
    rest = np.empty(size // 4 * 3, np.uint8)
    rest[::1 << 21] = 1
    gather(slices, size // 4)


def gather(slices, size):
    data = np.ones(size // 8)
    picks = np.random.default_rng(1).integers(len(data), size=(256, READS))
    while True:
        for pick in picks:
            data[pick].sum()
            slices().did(READS)


def main():
    made = []

    def slices():
        """Made when the work begins, not while its data is."""
        if not made:
            made.append(Slices(sys.argv[1]))
        return made[0]

    {"kmeans": kmeans, "phases": phases, "gather": gather, "sparse": sparse,
     "idle": idle}[sys.argv[2]](slices, int(sys.argv[3]))


if __name__ == "__main__":
    main()
