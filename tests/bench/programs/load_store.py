# SPDX-License-Identifier: GPL-2.0-only
"""A load for key-value stores over a unix socket: batches of 16 requests, nine reads to a write, keys by Zipf's law.

    load_store.py SLICES redis|memcached SOCKET KEYS ASKED_FOR VALUE_BYTES [PAUSE_S]

Of KEYS that exist, ASKED_FOR are asked for, scattered over all; with PAUSE_S between batches, or without a pause.
Requests are made beforehand, and answers counted by their length alone, so that the processor's time goes to the store.
"""

import socket
import sys
import time

import numpy as np
from slices import Slices

BATCH, BATCHES, EXPONENT = 16, 1 << 14, 0.99  # the exponent is YCSB's


def connected(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    return connection


def receive(connection, size):
    while size > 0:
        data = connection.recv(min(size, 1 << 16))
        if not data:
            sys.exit("the store closed the connection")
        size -= len(data)


class Redis:
    def fill(self, connection, keys, size):
        connection.sendall(b"CONFIG SET save ''\r\n")
        receive(connection, 5)
        connection.sendall(b"DEBUG POPULATE %d key %d\r\n" % (keys, size))
        receive(connection, 5)

    def key(self, number):
        return b"key:%d" % number

    def read(self, key, size):
        return b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key), len(b"$%d\r\n" % size) + size + 2

    def write(self, key, value):
        return (b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value)), 5


class Memcached:
    def fill(self, connection, keys, size):
        for first in range(0, keys, 1000):
            connection.sendall(b"".join(b"set %s 0 0 %d noreply\r\n%s\r\n" % (self.key(number), size, b"v" * size)
                                        for number in range(first, min(first + 1000, keys))))
        connection.sendall(b"version\r\n")
        connection.recv(100)

    def key(self, number):
        return b"key:%d" % number

    def read(self, key, size):
        return b"get %s\r\n" % key, len(b"VALUE %s 0 %d\r\n" % (key, size)) + size + 2 + len(b"END\r\n")

    def write(self, key, value):
        return b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value), len(b"STORED\r\n")


def zipf(rng, count, size):
    """`size` numbers below `count`, scattered: the k-th most wanted with a probability like 1 / k ** EXPONENT."""
    share = np.cumsum(np.arange(1, count + 1) ** -EXPONENT)
    return np.searchsorted(share, rng.random(size) * share[-1])


def batches(store, rng, keys, asked_for, size):
    scattered = rng.permutation(keys)[:asked_for]
    numbers = scattered[zipf(rng, asked_for, BATCH * BATCHES)].tolist()
    writes = rng.random(BATCH * BATCHES) < 0.1
    value = b"w" * size
    for first in range(0, len(numbers), BATCH):
        parts = [store.write(store.key(number), value) if write else store.read(store.key(number), size)
                 for number, write in zip(numbers[first:first + BATCH], writes[first:first + BATCH], strict=True)]
        yield b"".join(part[0] for part in parts), sum(part[1] for part in parts)


def main():
    path, kind, address = sys.argv[1:4]
    keys, asked_for, size = map(int, sys.argv[4:7])
    pause_s = float(sys.argv[7]) if len(sys.argv) > 7 else 0.0
    store = {"redis": Redis, "memcached": Memcached}[kind]()
    connection = connected(address)
    store.fill(connection, keys, size)
    made = list(batches(store, np.random.default_rng(1), keys, asked_for, size))
    slices = Slices(path)
    while True:
        for request, answer_bytes in made:
            begun_ns = time.monotonic_ns()
            connection.sendall(request)
            receive(connection, answer_bytes)
            slices.did(BATCH, begun_ns)
            if pause_s:
                time.sleep(pause_s)


if __name__ == "__main__":
    main()
