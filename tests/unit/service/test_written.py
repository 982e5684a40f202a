# SPDX-License-Identifier: GPL-2.0-only
"""A status as text: what is kept from one to the next is never older than the process that it tells of."""

import json
from dataclasses import replace

from builders import MIB, SECOND
from pagepulse.service.written import Written
from unit.service.test_status import NOW, process, status, target


def told(written, processes, now_ns=NOW):
    return json.loads(written.text(status(target(*processes)), now_ns))["targets"][0]["processes"]


def test_of_a_process_that_stayed_as_it_was_only_the_ages_are_new():
    written, sleeper = Written(), process(1)
    first, second = told(written, [sleeper])[0], told(written, [sleeper], NOW + SECOND)[0]
    assert second["snapshot_age_s"] == first["snapshot_age_s"] + 1
    assert second["watched_s"] == first["watched_s"] + 1
    ages = sleeper.ages_json(NOW)
    assert {key: value for key, value in first.items() if key not in ages} == \
        {key: value for key, value in second.items() if key not in ages} == json.loads(json.dumps(sleeper.as_json()))
    assert {key: first[key] for key in ages} == ages


def test_a_new_snapshot_of_a_process_is_told():
    written, before = Written(), process(1)
    told(written, [before, process(2)])
    after = replace(before, rss_bytes=3 * MIB)
    assert [one["rss_bytes"] for one in told(written, [after])] == [3 * MIB]


def test_what_is_told_no_more_is_kept_no_more():
    written = Written()
    for pid in range(50):  # each of them may have the number, as id() counts, of one that is gone
        assert [one["pid"] for one in told(written, [process(pid)])] == [pid]
    assert len(written._kept) == 1


def test_names_of_programs_may_be_anything():
    assert told(Written(), [replace(process(1), name='a"}\\', cgroup="/\n")])[0]["name"] == 'a"}\\'
    assert told(Written(), []) == []
