# SPDX-License-Identifier: GPL-2.0-only
"""PageSet: each page counts once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fakes import BASE
from pagepulse.model.memory import PAGE
from pagepulse.model.page_set import PageSet


@given(st.lists(st.tuples(st.integers(0, 300), st.lists(st.booleans(), max_size=200)), max_size=6))
def test_a_page_is_new_once(parts):
    pages, met = PageSet(), set()
    for first, chosen in parts:
        added = {first + offset for offset, is_chosen in enumerate(chosen) if is_chosen}
        assert pages.add(BASE + first * PAGE, np.array(chosen, np.bool_)) == len(added - met)
        met |= added
