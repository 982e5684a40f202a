# SPDX-License-Identifier: GPL-2.0-only
"""The programs that the bench knows, by their names."""

from __future__ import annotations

from bench.programs.compute import Compiler, Gather, Idle, Kmeans, Phases, Sparse, Stress
from bench.programs.program import Program
from bench.programs.stores import Memcached, Postgres, Redis, RedisIdle, RedisQuiet, Sqlite

PROGRAMS: dict[str, type[Program]] = {program.name: program for program in (
    Redis, RedisIdle, RedisQuiet, Memcached, Postgres, Sqlite, Kmeans, Phases, Gather, Sparse, Idle, Compiler, Stress)}
