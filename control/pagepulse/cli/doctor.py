# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse doctor`: what this kernel offers, what will be used, and why."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pagepulse.errors import PagepulseError
from pagepulse.kernel.host import HostFacts, facts, require
from pagepulse.kernel.prices import calibrate
from pagepulse.kernel.probes import Probes
from pagepulse.kernel.program import Programs
from pagepulse.kernel.reader import Reader
from pagepulse.kernel.taskstats import TaskDelays
from pagepulse.model.prices import Prices
from pagepulse.units import format_size

_DIRECT_MAP_BASE = {4: 0xFFFF_8880_0000_0000, 5: 0xFF11_0000_0000_0000}
"""Where it is unless it was moved, by levels of the page tables (Documentation/arch/x86/x86_64/mm.rst)."""


class Doctor:
    """Say what this kernel offers, what will be used, and why.

    Loads the BPF programs, finds the direct map, attaches the probes, measures prices, and leaves nothing behind.
    """

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        """Only how to print."""
        parser.add_argument("--json", action="store_true", help="print JSON")

    def run(self, args: argparse.Namespace) -> int:
        """Examine, print; 3 if pagepulse cannot work here."""
        found = facts()
        report: dict[str, Any] = {
            "kernel": found.kernel, "machine": found.machine, "levels": found.page_table_levels, "btf": found.has_btf,
            "lockdown": found.lockdown, "missing_capabilities": list(found.missing_capabilities), "thp": found.thp,
            "swap": {"total_bytes": found.swap_total_bytes, "free_bytes": found.swap_free_bytes},
            "psi": found.has_psi, "delays": not TaskDelays.hint(), "damon_running": found.damon_running,
            "direct_map": None, "probes": [], "budget_calibration": None, "compile_cpu_s": None,
            "huge_page_bytes": list(found.huge_page_bytes), "others": list(found.others), "matrix": None,
            "usable": True, "problem": None,
        }
        status = 0
        try:
            require(found)
            report |= _try_out(found)
        except PagepulseError as error:
            status = error.exit_code
            report |= {"usable": False, "problem": str(error)}
        print(json.dumps(report) if args.json else _in_words(report, found))
        return status


def _try_out(found: HostFacts) -> dict[str, Any]:
    with Programs() as programs:
        reader = Reader(programs)
        probes = Probes(programs)
        try:
            return {"direct_map": f"{reader.direct_map:#x}", "probes": [asdict(state) for state in probes.states],
                    "matrix": matrix_row(found, reader.direct_map, probes.attached),
                    "budget_calibration": asdict(calibrate(reader)), "compile_cpu_s": round(programs.compile_cpu_s, 3)}
        finally:
            probes.close()


def _in_words(report: dict[str, Any], found: HostFacts) -> str:
    lines = [f"kernel        {found.kernel} ({found.machine}), {found.page_table_levels}-level page tables",
             f"BTF           {'yes' if found.has_btf else 'missing'}",
             f"lockdown      {found.lockdown or 'cannot be told (no securityfs here)'}",
             f"direct map    {report['direct_map'] or 'not looked for'}, checked against /proc/self/pagemap",
             f"huge pages    {found.thp or 'not built in'} (transparent_hugepage/enabled)",
             f"swap          {_swap(found)}",
             f"PSI           {'yes' if found.has_psi else 'no: pressure cannot be told'}",
             f"delays        {TaskDelays.hint() or 'counted'}"]
    if found.damon_running:
        lines.append(f"DAMON         {found.damon_running} running: it clears accessed bits, too")
    for probe in report["probes"]:
        lines.append(f"probe         {probe['name']}: {probe['reason']}")
        if not probe["available"]:
            lines.append(f"              without it {probe['without']}")
    if report["budget_calibration"]:
        lines.append(_prices(Prices(**report["budget_calibration"])))
    if report["matrix"]:
        lines.append(f"matrix        | {' | '.join(report['matrix'].values())} |")
    verdict = "pagepulse works here" if report["usable"] else f"not usable: {report['problem']}"
    lines.append(f"verdict       {verdict}")
    return "\n".join(lines)


def matrix_row(found: HostFacts, direct_map: int, attached: Sequence[str]) -> dict[str, str]:
    """This kernel's row of the matrix in the README: what was seen and attached here, not what should be.

    Args:
        found: What the kernel offers.
        direct_map: Where its direct map was found.
        attached: Names of the probes that attached.
    """
    is_moved = direct_map != _DIRECT_MAP_BASE[found.page_table_levels]
    tables = [f"{found.page_table_levels} levels", *(f"{format_size(size)} pages" for size in found.huge_page_bytes),
              "KASLR" if is_moved else "no KASLR"]
    return {"kernel": found.kernel, "page_tables": ", ".join(tables),
            "probes": ", ".join(name.replace(":", " ", 1) for name in attached) or "none",
            "others": ", ".join(("reclaim", *found.others))}


def _swap(found: HostFacts) -> str:
    if not found.swap_total_bytes:
        return "none: pageout gives back file-backed memory only"
    return f"{format_size(found.swap_total_bytes)}, {format_size(found.swap_free_bytes)} free"


def _prices(prices: Prices) -> str:
    return (f"prices        read a window of 64 pages {prices.window_read_ns:.0f} ns; clear a page "
            f"{prices.page_clear_ns:.0f} ns and {prices.range_clear_ns:.0f} ns a range; the target's next touch of a "
            f"cleared page {prices.retouch_ns:.0f} ns")


COMMAND = Doctor()
