# SPDX-License-Identifier: GPL-2.0-only
"""Pictures: the right format, the right colours, and nothing of the target's that does harm."""

from __future__ import annotations

import base64
import io
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest

from builders import BASE, MIB, region, series, snapshot, touched_region
from pagepulse.errors import PagepulseError
from pagepulse.report.folding import fold
from pagepulse.report.heat import heat
from pagepulse.report.overview import overview
from pagepulse.report.page import page
from pagepulse.report.picture import picture, pixels

EVIL = "</script><script>alert(1)</script>$x_$ <img src=//evil.example/> \x1b 表\udc80"


def drawn(snapshots, rows=None, cells=40):
    summed = overview(snapshots)
    return heat(snapshots, fold(summed.spans, cells), rows or len(snapshots), summed.start_ns, summed.end_ns,
                summed.aggregation_ns), summed


def test_a_png_is_one_and_large_enough_to_read(taken):
    data = picture(drawn(taken)[0], "prog", "png")
    height, width, _ = matplotlib.image.imread(io.BytesIO(data)).shape
    assert width >= 1500
    assert height >= 900


def test_an_svg_is_xml_and_names_the_mappings_with_their_sizes(taken):
    text = "".join(ET.fromstring(picture(drawn(taken)[0], "prog", "svg")).itertext())
    for words in ("[anon: table]", "64 MiB", "libc.so.6", "time since the recording began", "touched within 100 ms"):
        assert words in text


@pytest.mark.parametrize("file_format", ["png", "svg"])
def test_a_picture_survives_any_name(file_format):
    assert picture(drawn([snapshot(mappings=(EVIL,))])[0], EVIL, file_format)


def test_a_target_without_memory_is_not_drawn():
    with pytest.raises(PagepulseError, match="nothing to draw"):
        drawn([snapshot(region()[:0])])


def test_idle_is_dark_hot_is_bright_and_not_known_is_grey():
    rows = [region(), touched_region(BASE + 2 * MIB), region(BASE + 4 * MIB, present_bytes=0)]
    image = matplotlib.image.imread(io.BytesIO(pixels(drawn([snapshot(*rows)], cells=3)[0])))
    idle, hot, unknown = image[:, 0, :3]
    assert idle.max() < .1
    assert hot.min() > .6
    assert np.ptp(unknown) < .05
    assert .7 < unknown.mean() < .9


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))


def test_the_page_loads_nothing_and_escapes_every_name():
    tags = Tags()
    text = page(*drawn([snapshot(mappings=(EVIL,))]), EVIL)
    tags.feed(text)
    assert [tag for tag, _ in tags.seen].count("script") == 2
    assert [attrs["src"][:22] for tag, attrs in tags.seen if "src" in attrs] == ["data:image/png;base64,"]
    assert not any("href" in attrs for _, attrs in tags.seen)
    assert not re.search(r"url\(|@import|https?://", text)
    assert "default-src 'none'" in text
    assert "\x1b" not in text
    assert text.encode("utf-8")


def test_what_the_pointer_shows_is_the_matrix(taken):
    one, summed = drawn(taken)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page(one, summed, "prog"))[1])
    halves = np.frombuffer(base64.b64decode(data["share"]), "<u2").astype(np.uint32) << 16
    shares = halves.view(np.float32).reshape(data["rows"], data["cells"])
    assert np.allclose(shares, one.touched_share, rtol=1 / 256, equal_nan=True)
    assert len(data["address"]) == data["cells"] == 40


def test_the_page_says_working_set_idle_memory_costs_and_what_is_not_known(taken):
    text = page(*drawn(taken), "prog")
    for words in ("percentile", "could be watched", "of one CPU", "unclearable", "3 samples lost", "polyline"):
        assert words in text


def test_a_peak_of_the_working_set_is_not_lost_among_many_snapshots():
    heats = [[0]] * 2000
    heats[777] = [1]
    points = re.search(r'points="([^"]*)"', page(*drawn(series(*heats), rows=10), "prog"))[1].split()
    assert len(points) == 600
    assert [point.split(",")[1] for point in points].count("0.0") == 1
