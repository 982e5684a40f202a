# SPDX-License-Identifier: GPL-2.0-only
"""Heritage: what a program leaves to the one that its process becomes."""

from __future__ import annotations

import numpy as np

from fakes import BASE, MIB, SECOND, FakeMemory
from pagepulse.model.engine import Engine, EngineOptions
from pagepulse.model.heritage import LASTS_NS, Heritage
from pagepulse.model.memory import Mapping
from pagepulse.model.regions import STATE


def library(start, size=8 * MIB, *, offset=4096, shared=True):
    return Mapping(start, start + size, "/lib/x", anonymous=False, file="08:01:77", offset=offset, shared=shared)


LIBRARY, MOVED = library(BASE), library(BASE + 512 * MIB)
HEAP = Mapping(BASE + 64 * MIB, BASE + 80 * MIB, "[heap]")
NONE = np.empty(0, STATE)


def rows(*spans):
    made = np.zeros(len(spans), STATE)
    for row, (start, end, since_ns, trials) in zip(made, spans, strict=True):
        row["start"], row["end"], row["since_ns"], row["trials"] = start, end, since_ns, trials
    return made


def heritage(*, until_ns=10 * SECOND):
    return Heritage(rows((BASE, BASE + 2 * MIB, 5, 10), (BASE + 2 * MIB, BASE + 8 * MIB, 7, 0),
                         (HEAP.start, HEAP.end, 9, 3)), (LIBRARY, HEAP), until_ns)


def test_the_same_part_of_a_file_keeps_its_regions_ages_and_evidence_wherever_it_lies_now():
    kept = heritage().onto(NONE, [HEAP, MOVED], SECOND)
    assert kept[["start", "end", "since_ns", "trials"]].tolist() == [
        (MOVED.start, MOVED.start + 2 * MIB, 5, 10), (MOVED.start + 2 * MIB, MOVED.end, 7, 0)]


def test_the_heap_and_other_parts_of_the_file_are_new():
    other, shorter = library(MOVED.start, offset=0), library(MOVED.start, 7 * MIB)
    for mapping in (HEAP, other, shorter, library(MOVED.start, shared=False)):
        assert len(heritage().onto(NONE, [mapping], SECOND)) == 0


def test_what_the_new_program_has_shown_itself_is_left_alone():
    own = rows((MOVED.start, MOVED.end, 1000, 1))
    assert heritage().onto(own, [MOVED], SECOND).tolist() == own.tolist()


def test_what_is_mapped_much_later_is_new():
    assert len(heritage(until_ns=SECOND).onto(NONE, [MOVED], SECOND + 1)) == 0


def test_a_region_that_reached_beyond_the_mapping_leaves_its_part():
    wide = Heritage(rows((BASE, BASE + 16 * MIB, 5, 100)), (LIBRARY,), 10 * SECOND)
    kept = wide.onto(NONE, [MOVED], SECOND)
    assert kept[["start", "end", "trials"]].tolist() == [(MOVED.start, MOVED.end, 50)]


def test_an_engine_takes_up_what_its_predecessor_knew():
    memory = FakeMemory(64 * MIB)
    memory.map(BASE, 8 * MIB, "/lib/x")
    memory.mappings = lambda: [LIBRARY]
    options = EngineOptions(5_000_000, 100_000_000, 1, 100)
    engine = Engine(1, memory, options)
    engine.heritage = Heritage(rows((BASE, BASE + 2 * MIB, 5, 10), (BASE + 2 * MIB, BASE + 8 * MIB, 7, 0)), (LIBRARY,),
                               memory.now_ns() + LASTS_NS)
    engine.update()
    assert engine.regions[["start", "since_ns"]].tolist() == [(BASE, 5), (BASE + 2 * MIB, 7)]
