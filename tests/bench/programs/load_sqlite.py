# SPDX-License-Identifier: GPL-2.0-only
"""SQLite in a process of its own: reads of rows by Zipf's law through a cache as large as the table, and some writes.

    load_sqlite.py SLICES ROWS ROW_BYTES
"""

import sqlite3
import sys
import time

import numpy as np
from load_store import zipf
from slices import Slices

BATCH = 16


def main():
    path, rows, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    database = sqlite3.connect("data.db", isolation_level=None)
    for pragma in ("journal_mode=wal", "synchronous=off", f"cache_size=-{rows * (size + 100) // 1024}"):
        database.execute(f"pragma {pragma}")
    database.execute("create table data (id integer primary key, value blob)")
    database.execute("begin")
    database.executemany("insert into data values (?, ?)", ((number, b"v" * size) for number in range(rows)))
    database.execute("commit")
    database.execute("select sum(length(value)) from data").fetchone()  # all of it is in the cache
    rng = np.random.default_rng(1)
    numbers = rng.permutation(rows)[zipf(rng, rows, 1 << 18)].tolist()
    slices = Slices(path)
    while True:
        for first in range(0, len(numbers), BATCH):
            begun_ns = time.monotonic_ns()
            for number in numbers[first:first + BATCH - 1]:
                database.execute("select value from data where id = ?", (number,)).fetchone()
            database.execute("update data set value = ? where id = ?", (b"w" * size, numbers[first]))
            slices.did(BATCH, begun_ns)


if __name__ == "__main__":
    main()
