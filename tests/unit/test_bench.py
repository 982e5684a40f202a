# SPDX-License-Identifier: GPL-2.0-only
"""What the bench and the demo compute from what they measure."""

import numpy as np
import pytest

from bench.paired import paired_change, rate_between, rates_in_parts
from bench.results import with_section
from bench.truth import hot_found, newest


def slices(*operations):
    return [{"start_ns": 100 * number, "end_ns": 100 * number + 100, "operations": count, "busy_ns": 10}
            for number, count in enumerate(operations)]


def snapshot(end_ns, *regions):
    keys = ("start", "end", "rate_hz")
    return {"end_ns": end_ns, "regions": [dict(zip(keys, region, strict=True)) for region in regions]}


def test_a_change_is_measured_pair_by_pair_so_that_drift_between_pairs_does_not_matter():
    drifting = np.geomspace(1, 100, 20)
    change = paired_change(drifting, drifting * 0.99)
    assert change.mean == pytest.approx(-0.01)
    assert change.low == pytest.approx(-0.01)
    assert change.high == pytest.approx(-0.01)
    assert change.pairs == 20


def test_the_confidence_interval_holds_the_mean_and_grows_with_the_noise():
    noise = np.random.default_rng(3).normal(0, 0.02, 40)
    quiet, loud = (paired_change(np.ones(40), 1 + scale * noise) for scale in (1, 4))
    assert quiet.low < quiet.mean < quiet.high
    assert loud.high - loud.low == pytest.approx(4 * (quiet.high - quiet.low))


def test_no_effect_is_claimed_from_a_single_pair_or_from_halves_of_pairs():
    with pytest.raises(ValueError, match="at least two whole pairs"):
        paired_change([1.0], [0.5])
    with pytest.raises(ValueError, match="at least two whole pairs"):
        paired_change([1.0, 1.0, 1.0], [0.5, 0.5])


def test_a_rate_counts_only_slices_that_lie_wholly_inside():
    assert rate_between(slices(1000, 10, 10, 1000), 50, 350) == 20 * 1e9 / 200
    assert rate_between(slices(1000, 10, 10, 1000), 50, 350, per="busy_ns") == 20 * 1e9 / 20
    with pytest.raises(ValueError, match="said nothing"):
        rate_between(slices(1, 1), 50, 149)


def test_parts_of_a_time_are_equal_and_in_order():
    assert rates_in_parts(slices(1, 1, 2, 2), 0, 400, parts=2) == [1e7, 2e7]


def test_hot_bytes_called_hot_count_for_recall_and_cold_ones_against_precision():
    seen = [snapshot(1, (0, 40, 9.0), (40, 100, 0.1)), snapshot(2, (0, 20, 9.0), (20, 100, 2.9))]
    found = hot_found(seen, [(10, 30)], threshold_hz=3)
    assert found.precision == (20 + 10) / (40 + 20)
    assert found.recall == (20 + 10) / (20 + 20)


def test_with_nothing_called_hot_the_recall_is_zero():
    assert hot_found([snapshot(1, (0, 100, 0.0))], [(10, 30)], threshold_hz=3) == (1.0, 0.0)


def test_the_newest_snapshots_are_those_of_the_last_seconds():
    seen = [snapshot(end * 10**9) for end in range(1, 11)]
    assert [one["end_ns"] for one in newest(seen, 3)] == [8 * 10**9, 9 * 10**9, 10 * 10**9]


# --- results ---------------------------------------------------------------------------------------------------------

def test_a_section_is_replaced_where_it_is_and_added_where_it_is_not():
    document = "# Results\n\nIntroduction.\n\n## One\n\nold\n\n## Two\n\nother\n"
    replaced = with_section(document, "One", "new\n")
    assert replaced == "# Results\n\nIntroduction.\n\n## One\n\nnew\n\n## Two\n\nother\n"
    assert with_section(replaced, "Three", "third").endswith("## Two\n\nother\n\n## Three\n\nthird\n")
    assert with_section(replaced, "Two", r"\1") == replaced.replace("other", r"\1")
