# SPDX-License-Identifier: GPL-2.0-only
"""Huge pages under each policy of the kernel, and while it makes new ones: watching splits none of them."""

import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from live.machine import huge_page_pool, setting, wait_until
from live.measuring import measure, new_engine, pages_in
from live.recorder import pagepulse
from live.test_clear import huge_bytes
from pagepulse.model.memory import CHUNK, PAGE
from workload import Workload

pytestmark = [pytest.mark.live, pytest.mark.usefixtures("one_cpu")]

THP = Path("/sys/kernel/mm/transparent_hugepage")
CHUNKS = 7
GIB = 1 << 30


def splits() -> int:
    """Huge pages split on this machine since it booted."""
    counters = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    return int(counters["thp_split_page"])


@pytest.fixture(name="policy", params=["always", "madvise", "never"])
def _policy(request):
    with setting(THP / "enabled", request.param):
        yield request.param


@pytest.fixture(name="khugepaged")
def _khugepaged():
    """At work as fast as it can."""
    with ExitStack() as stack:
        for name, value in (("enabled", "madvise"), ("khugepaged/scan_sleep_millisecs", 10),
                            ("khugepaged/alloc_sleep_millisecs", 10), ("khugepaged/pages_to_scan", 1 << 16)):
            stack.enter_context(setting(THP / name, value))
        yield


def test_no_huge_page_is_split_under_any_policy(policy, watch):
    with Workload("touch", "--area", f"a:{CHUNKS * CHUNK}:thp", "--area", f"b:{1009 * PAGE}") as touch, \
            watch(touch.pid) as target:
        start, end = touch.area("a")
        before, huge = splits(), huge_bytes(touch.pid, start)
        engine = new_engine(target)
        for page in (0, 600, 3500):
            touch.command(f"touch a {page} 1")
            measure(engine, 10)
        assert pages_in(engine, engine.windows.known, start, end) == CHUNKS * 512
        assert huge_bytes(touch.pid, start) == huge == (0 if policy == "never" else CHUNKS * CHUNK)
        assert splits() == before


def test_pages_that_the_kernel_joins_meanwhile_are_seen_as_huge_and_stay_whole(khugepaged, watch):
    with Workload("touch", "--area", f"a:{CHUNKS * CHUNK}") as touch, watch(touch.pid) as target:
        start, end = touch.area("a")
        whole = range(-(-start // CHUNK) * CHUNK, end // CHUNK * CHUNK, CHUNK)
        engine = new_engine(target)
        measure(engine)
        assert huge_bytes(touch.pid, start) == 0
        before = splits()  # watching must not take apart what khugepaged has just joined, either
        touch.command("huge a")

        def are_joined() -> bool:
            touch.command(f"touch a 0 {CHUNKS * 512 // 97} 97")  # it joins nothing that is idle
            measure(engine, 5)
            return huge_bytes(touch.pid, start) == len(whole) * CHUNK

        assert wait_until(are_joined)
        measure(engine)
        touch.command("touch a 3000 1")
        measure(engine)
        assert splits() == before
        assert huge_bytes(touch.pid, start) == len(whole) * CHUNK
        inside = np.isin(engine.windows.tile // np.uint64(CHUNK) * np.uint64(CHUNK), np.array(whole, np.uint64))
        assert engine.windows.huge[inside].all()
        assert pages_in(engine, engine.windows.known, start, end) == CHUNKS * 512


@pytest.mark.parametrize(("option", "size", "pages", "page_kib"), [
    ("hugetlb", 3 * CHUNK, 3, 2048), ("giant", GIB, 1, 1 << 20)])
def test_hugetlb_memory_is_read_and_reported_as_what_is_never_cleared(output, option, size, pages, page_kib):
    with huge_page_pool(pages, page_kib), Workload("touch", "--area", f"a:{size}:{option}") as touch:
        assert pagepulse("record", "--pid", str(touch.pid), "--duration", "1s", "-o", output).status == 0
    regions = json.loads(pagepulse("report", "regions", "--json", "--last", output).out)["snapshots"][0]["regions"]
    start, end = touch.area("a")
    inside = [region for region in regions if start <= region["start"] < end]
    assert sum(region["present_bytes"] for region in inside) == size
    assert sum(region["unclearable_bytes"] for region in inside) == size
    assert sum(region["touched_bytes"] for region in inside) == 0
    assert "hugetlb" in pagepulse("report", "idle", output).out
