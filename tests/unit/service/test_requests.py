# SPDX-License-Identifier: GPL-2.0-only
"""What may be asked of a daemon: answers from what was published, and wishes that the daemon takes up."""

import json

import pytest

from builders import snapshot
from pagepulse.service.requests import Published, Requests
from pagepulse.service.server import Refused
from unit.service.test_status import process, status, target


@pytest.fixture(name="woken")
def _woken():
    return []


@pytest.fixture(name="requests")
def _requests(woken):
    requests = Requests(lambda: woken.append(True))
    requests.published = Published(status(target(process(7)), target(name="other")),
                                   {"redis": {7: snapshot(pid=7)}, "other": {}})
    return requests


def asked(requests, **request):
    answer = requests.answer(request)
    assert answer.endswith(b"}\n")
    assert answer.count(b"\n") == 1
    return json.loads(answer)


def test_status_is_what_was_published_last(requests):
    told = asked(requests, verb="status")
    assert (told["ok"], [one["name"] for one in told["targets"]]) == (True, ["redis", "other"])
    requests.published = Published(status(target(name="new")), {})
    assert [one["name"] for one in asked(requests, verb="status")["targets"]] == ["new"]


def test_who_asks_all_the_time_gets_the_same_answer_again(requests):
    assert requests.answer({"verb": "status"}) is requests.answer({"verb": "status"})


def test_before_there_is_anything_to_tell_it_says_so():
    with pytest.raises(Refused, match="starting"):
        Requests(lambda: None).answer({"verb": "status"})


def test_a_snapshot_of_one_process_has_its_regions_and_a_list_has_not(requests):
    (one,) = asked(requests, verb="snapshot", pid=7)["snapshots"]
    assert (one["target"], len(one["regions"])) == ("redis", 1)
    (line,) = asked(requests, verb="snapshot")["snapshots"]
    assert (line["pid"], "regions" in line) == (7, False)
    assert asked(requests, verb="snapshot", target="other")["snapshots"] == []


def test_targets_rest_and_go_on_by_name_or_all_together(requests, woken):
    assert asked(requests, verb="pause", targets=["redis"])["targets"] == ["redis"]
    assert (requests.take(), requests.take(), len(woken)) == (True, False, 1)
    assert (requests.is_paused("redis"), requests.is_paused("other")) == (True, False)
    asked(requests, verb="pause")
    assert requests.is_paused("other")
    asked(requests, verb="resume")
    assert not requests.is_paused("redis")


@pytest.mark.parametrize(("request_", "words"), [
    ({"verb": "stop"}, "unknown verb; known: status, snapshot, pause, resume"),
    ({"verb": "status", "pid": 1}, "unknown key 'pid' for status"),
    ({"verb": "snapshot", "pid": "7"}, "pid: expected a number"),
    ({"verb": "snapshot", "pid": True}, "pid: expected a number"),
    ({"verb": "snapshot", "pid": 8}, "process 8 is not watched"),
    ({"verb": "snapshot", "target": "nobody"}, "there is no target 'nobody'; known: redis, other"),
    ({"verb": "snapshot", "target": ["redis"]}, "there is no target"),
    ({"verb": "pause", "targets": ["nobody"]}, "there is no target 'nobody'"),
    ({"verb": "pause", "targets": "redis"}, "expected a list of names"),
    ({"verb": "pause", "targets": [["redis"]]}, "expected a list of names"),
])
def test_what_makes_no_sense_is_refused(requests, request_, words):
    with pytest.raises(Refused, match=words):
        requests.answer(request_)
    assert not requests.take()
