# SPDX-License-Identifier: GPL-2.0-only
"""The fixed parts of the HTML page: skeleton (a string.Template), style and script."""

SKELETON = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>$title: memory access</title>
<style>$style</style>
<h1>$title</h1>
<p>$facts</p>

<h2>Memory touched within $interval, by address and time</h2>
<div class="map">
  <div class="plot">
    <img id="heat" alt="heatmap" src="data:image/png;base64,$image">
    $groups
  </div>
  <div class="times">$times</div>
</div>
<p class="scale"><span>idle</span><i style="background:linear-gradient(to right, $gradient)"></i><span>100 %</span>
  <i class="patch" style="background:$unknown"></i><span>not mapped, not resident, or not known</span>
  <i class="patch line"></i><span>addresses folded away; small mappings enlarged</span></p>
<p id="hover">Point at the map to see address, mapping, time, share touched and rate.</p>

<h2>Working set: memory touched within $interval</h2>
<figure><figcaption>$top</figcaption>
<svg viewBox="0 0 1000 180" preserveAspectRatio="none" role="img" aria-label="working set over time">
  <polyline points="$curve" fill="none" stroke="#b5367a" stroke-width="1.5" vector-effect="non-scaling-stroke"/>
</svg>
<p class="ends"><span>0</span><span>$duration</span></p></figure>
<table><tr><th>percentile<th>size</tr>$percentiles</table>

<h2>Idle memory, at the end</h2>
<table><tr><th>size<th>of resident<th></tr>$idle</table>

<h2>What it cost, and what it cannot tell</h2>
<ul>$doubts</ul>
<script type="application/json" id="data">$data</script>
<script>$script</script>
</html>
"""

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1180px; margin: 2em auto; padding: 0 1em; color: #222 }
h1 { font-size: 1.4em; overflow-wrap: anywhere } h2 { font-size: 1.1em; margin-top: 2em }
.map { padding: 0 15.5em 0 8.5em }
.plot { position: relative; height: 560px }
.plot img { width: 100%; height: 100%; image-rendering: pixelated; display: block; cursor: crosshair }
.plot i { position: absolute; left: 0; right: 0; pointer-events: none; background: #fff }
.fold { height: 4px; margin-top: -2px } .seam { height: 1px }
.name, .at { position: absolute; font-size: 12px; line-height: 1; white-space: nowrap; transform: translateY(-50%) }
.name { left: calc(100% + .6em) } .name b { font-weight: normal; color: #777 }
.at { right: calc(100% + .6em); transform: none; color: #777; font-family: ui-monospace, monospace; font-size: 11px }
.times { position: relative; height: 1.6em; font-size: 12px }
.times span { position: absolute; transform: translateX(-50%); white-space: nowrap }
.scale { display: flex; gap: .5em; align-items: center; flex-wrap: wrap; font-size: 13px; margin-left: 8.5em }
.scale i { width: 16em; height: 12px } .scale .patch { width: 20px; margin-left: 1.2em }
.scale .line { background: linear-gradient(#222 40%, #fff 40% 60%, #222 60%) }
#hover { min-height: 1.5em; margin-left: 8.5em; font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
figure { margin: 0 } figcaption { font-size: 12px; color: #777 }
figure svg { width: 100%; height: 180px; border: solid #bbb; border-width: 1px 0; background: #fafafa }
.ends { display: flex; justify-content: space-between; font-size: 12px; margin: 0; color: #777 }
table { border-collapse: collapse; margin-top: 1em } td, th { padding: .15em 1.2em .15em 0; text-align: left }
"""

# What the pointer shows. The numbers are the upper halves of 32-bit floats: shifted up, they are floats again.
SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
function floats(text) {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  return new Float32Array(Uint32Array.from(new Uint16Array(bytes.buffer), half => half << 16).buffer);
}
const share = floats(data.share), rate = floats(data.rate);
const image = document.getElementById("heat"), hover = document.getElementById("hover");
function words(number) { return Number(number.toPrecision(2)).toString(); }
image.addEventListener("mousemove", event => {
  const box = image.getBoundingClientRect();
  const row = Math.min(data.rows - 1, Math.max(0, Math.floor((event.clientX - box.left) / box.width * data.rows)));
  const cell = Math.min(data.cells - 1, Math.max(0, Math.floor((event.clientY - box.top) / box.height * data.cells)));
  const group = data.groups.filter(one => one[0] <= cell).pop(), at = row * data.cells + cell;
  const known = Number.isNaN(share[at]) ? "not mapped, not resident, or not known"
    : words(100 * share[at]) + " % touched; each page " + words(rate[at]) + " times a second";
  const others = group[2] ? " or one of its " + group[2] + " neighbours" : "";
  hover.textContent = data.address[cell] + " in " + group[1] + others + " at "
    + (row * data.row_ns / 1e9).toFixed(1) + " s: " + known;
});
"""
