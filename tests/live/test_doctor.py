# SPDX-License-Identifier: GPL-2.0-only
"""`pagepulse doctor` on this kernel."""

from pathlib import Path

import pytest

from live.recorder import pagepulse
from pagepulse.kernel.host import NEEDED
from pagepulse.kernel.probes import CLEARING_FUNCTIONS

pytestmark = pytest.mark.live

AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def test_it_says_what_is_there_and_what_is_not(reader, probes):
    outcome = pagepulse("doctor", "--json")
    assert outcome.status == 0
    found = outcome.json
    assert found["usable"]
    assert found["problem"] is None
    assert found["kernel"] == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert found["levels"] == (5 if "la57" in Path("/proc/cpuinfo").read_text().split() else 4)
    assert found["direct_map"] == f"{reader.direct_map:#x}"
    assert found["psi"] == Path("/proc/pressure/memory").exists()
    assert found["swap"]["total_bytes"] >= found["swap"]["free_bytes"] >= 0
    assert all(price > 0 for price in found["budget_calibration"].values())
    assert found["missing_capabilities"] == []
    assert [probe["name"] for probe in found["probes"] if probe["available"]] == probes.attached
    assert {f"kprobe:{function}" for function in CLEARING_FUNCTIONS} <= {probe["name"] for probe in found["probes"]}
    assert all(probe["reason"] and probe["without"] for probe in found["probes"])


def test_it_says_in_words_which_probes_are_there_and_what_is_lost_without_the_others():
    outcome = pagepulse("doctor")
    assert outcome.status == 0
    assert outcome.err == ""
    assert "pagepulse works here" in outcome.out
    for probe in pagepulse("doctor", "--json").json["probes"]:
        assert f"{probe['name']}: {probe['reason']}" in outcome.out
        assert (probe["without"] in outcome.out) or probe["available"]


def test_its_row_of_the_kernel_matrix_says_what_was_seen(reader, probes):
    found = pagepulse("doctor", "--json").json
    row = found["matrix"]
    assert row["kernel"] == found["kernel"]
    assert row["page_tables"].startswith(f"{found['levels']} levels, ")
    assert ("2 MiB pages" in row["page_tables"]) == (2 << 20 in found["huge_page_bytes"])
    is_moved = reader.direct_map not in (0xFFFF_8880_0000_0000, 0xFF11_0000_0000_0000)
    assert row["page_tables"].endswith(", KASLR" if is_moved else ", no KASLR")
    assert row["probes"] == ", ".join(name.replace(":", " ") for name in probes.attached)
    assert row["others"] == ", ".join(["reclaim", *found["others"]])
    assert f"| {' | '.join(row.values())} |" in pagepulse("doctor").out


def test_without_privileges_it_tells_what_it_can_and_ends_with_3():
    outcome = pagepulse("doctor", "--json", prefix=AS_NOBODY)
    assert outcome.status == 3
    found = outcome.json
    assert not found["usable"]
    assert found["missing_capabilities"] == list(NEEDED)
    assert "needs root" in found["problem"]
    assert found["direct_map"] is None
    assert found["matrix"] is None
    assert found["budget_calibration"] is None
    in_words = pagepulse("doctor", prefix=AS_NOBODY)
    assert in_words.status == 3
    assert "needs root" in in_words.out


def test_what_cannot_be_told_without_privileges_is_not_told_to_be_none():
    """The state of the kernel's own DAMON is root's to read."""
    running = pagepulse("doctor", "--json").json["damon_running"]
    unprivileged = pagepulse("doctor", "--json", prefix=AS_NOBODY).json["damon_running"]
    assert unprivileged is None or unprivileged == running


@pytest.mark.parametrize("capability", ["CAP_BPF", "CAP_SYS_ADMIN"])
def test_a_capability_that_is_short_is_named(capability):
    name = capability.removeprefix("CAP_").lower()
    outcome = pagepulse("doctor", "--json", prefix=["setpriv", f"--bounding-set=-{name}", f"--inh-caps=-{name}"])
    assert outcome.status == 3
    assert outcome.json["missing_capabilities"] == [capability]
