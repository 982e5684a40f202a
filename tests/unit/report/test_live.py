# SPDX-License-Identifier: GPL-2.0-only
"""The live view: everything on one screen, whatever its size, and the right regions in its tables."""

from dataclasses import replace

import pytest

from builders import region, snapshot, touched_region
from pagepulse.report.live import LiveView, Standing, plain_line

STANDING = Standing("office", 12_000_000_000, 0.0095, 0.0002, ["raw_tracepoint:page_fault_user"])


def view(*snapshots):
    filled = LiveView()
    for each in snapshots:
        filled.add(each)
    return filled


def text(lines):
    return "\n".join(line.plain for line in lines)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (40, 20), (20, 5)])
def test_never_leaves_the_screen(width, height):
    lines = list(view(snapshot(), snapshot()).lines(STANDING, width, height))

    assert len(lines) <= height
    assert all(line.cell_len <= width for line in lines)


def test_waits_before_the_first_snapshot():
    assert "waiting" in text(LiveView().lines(STANDING, 80, 24))


def test_says_what_watching_costs_and_which_probes_are_attached():
    shown = text(view(snapshot()).lines(STANDING, 120, 40))

    assert "cost 0.95 % of a CPU" in shown
    assert "raw_tracepoint:page_fault_user" in shown


def test_says_what_schemes_do_and_what_holds_them_back():
    standing = replace(STANDING, schemes=["prcl: pageout done on 3 MiB; a guard stops it", "  psi stops: some wait"])
    shown = text(view(snapshot()).lines(standing, 120, 40)).splitlines()
    assert shown[-2:] == list(standing.schemes)


def test_the_largest_and_longest_idle_region_leads_the_idle_table():
    small = region(start=0x1000_0000, size=1 << 20)
    large = region(start=0x4000_0000, size=1 << 30)
    hot = touched_region(start=0x9000_0000, size=8 << 20)
    shown = text(view(snapshot(small, large, hot)).lines(STANDING, 120, 40))

    idlest = shown.split("IDLEST")[1].splitlines()[1]
    assert "1 GiB" in idlest


def test_a_log_line_names_what_it_shows():
    line = plain_line(snapshot(), STANDING)

    assert "12.0 s" in line
    assert all(word in line for word in ("rss", "wss", "idle>=10s", "cpu 0.95 %"))


def test_says_what_limits_all_that_is_shown_where_something_does():
    limited = replace(STANDING, caveat="all is cleared by clear_refs")
    assert text(view(snapshot()).lines(limited, 120, 40)).endswith("all is cleared by clear_refs")
    assert "clear_refs" not in text(view(snapshot()).lines(STANDING, 120, 40))
