# SPDX-License-Identifier: GPL-2.0-only
"""Runs inside of the machine of test_unit.py, once it is up; writes what it found out to /found.json."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable
from pathlib import Path

UNIT = "pagepulse.service"
SLEEPER = "import time; kept = bytearray(b'x') * (48 << 20); print('ready', flush=True); time.sleep(3600)"
PULSE = """
import time
kept = bytearray(16 << 20)
print('ready', flush=True)
while True:
    kept[::4096] = bytes(4096)
    time.sleep(0.5)
"""
SLEEP_S = 40


def said(*command: str) -> str:
    """Its standard output."""
    return subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True).stdout.strip()


def status() -> dict:
    """The daemon's answer; empty while it does not answer."""
    text = said("pagepulse", "status", "--json")
    return json.loads(text) if text else {}


def properties(*names: str) -> dict[str, str]:
    """Of the unit."""
    return {name: said("systemctl", "show", UNIT, "-P", name) for name in names}


def wait(what: str, condition: Callable[[], object], timeout_s: float = 240) -> None:
    """Until it is true; emulation is slow."""
    print("waiting:", what, flush=True)
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            print(said("journalctl", "-u", UNIT, "--no-pager"), flush=True)
            raise TimeoutError(f"{what}: {status()}")
        time.sleep(1)


def target(name: str) -> dict:
    """What the daemon says of a target; empty while it does not know it."""
    return next((one for one in status().get("targets", ()) if one["name"] == name), {})


def applied_bytes(name: str) -> int:
    """By the one scheme of a target."""
    return sum(one["applied_bytes"] for one in target(name).get("schemes", ()))


def snapshots(name: str) -> int:
    """Taken of a target so far."""
    return target(name).get("snapshots", 0)


def swapped_bytes(pid: int) -> int:
    """Of a process, by the kernel's own count."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmSwap")) * 1024


def start(name: str, program: str) -> subprocess.Popen:
    """A Python program under a name of its own, once it is ready."""
    path = Path("/usr/local/bin") / name
    path.symlink_to(sys.executable)
    process = subprocess.Popen([path, "-c", program], stdout=subprocess.PIPE, user="nobody")
    process.stdout.readline()
    return process


def suspend() -> float:
    """To memory, until the machine's clock wakes it; the seconds that it slept."""
    def asleep_s() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()

    before_s = asleep_s()
    Path("/sys/power/mem_sleep").write_text("deep")
    Path("/sys/class/rtc/rtc0/wakealarm").write_text(f"+{SLEEP_S}")
    Path("/sys/power/state").write_text("mem")
    return asleep_s() - before_s


def swap_on() -> None:
    """On a file of this machine's disk."""
    with Path("/swap").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 256 << 20)
    Path("/swap").chmod(0o600)
    subprocess.run(["mkswap", "-q", "/swap"], check=True)
    subprocess.run(["swapon", "/swap"], check=True)


def find_out(found: dict) -> None:
    """Everything, in the order of a unit's life."""
    found["enabled"] = said("systemctl", "is-enabled", UNIT)
    wait("it says that it is ready", lambda: said("systemctl", "is-active", UNIT) == "active")
    swap_on()
    sleeper = start("sleeper", SLEEPER)
    pulse = start("pulse", PULSE)
    wait("what sleeps is paged out", lambda: applied_bytes("sleepers") >= 16 << 20)
    found["applied_bytes"] = applied_bytes("sleepers")
    found["swapped_bytes"] = swapped_bytes(sleeper.pid)
    with urllib.request.urlopen("http://127.0.0.1:9753/metrics") as answer:
        found["metrics"] = sum(line.startswith(b"pagepulse_") for line in answer)
    found["recording_bytes"] = Path("/var/lib/pagepulse/sleepers.data").stat().st_size
    wait("what is busy is watched", lambda: snapshots("pulses") > 3)
    found["slept_s"] = suspend()
    before = snapshots("pulses")
    wait("what is busy is watched on", lambda: snapshots("pulses") > before + 5)
    found["pulse_swapped_bytes"] = swapped_bytes(pulse.pid)
    found["restarts_after_sleep"] = int(properties("NRestarts")["NRestarts"])
    Path("/etc/pagepulse/conf.d/zz.toml").write_text('[targets.others]\nuser = "root"\nmin_rss = "1GiB"\n')
    subprocess.run(["systemctl", "reload", UNIT], check=True)
    wait("it has the new target", lambda: len(status().get("targets", ())) == 3)
    found["targets_after_reload"] = sorted(one["name"] for one in status()["targets"])
    os.kill(int(properties("MainPID")["MainPID"]), signal.SIGSTOP)
    wait("the watchdog starts one that hangs again", lambda: properties("NRestarts")["NRestarts"] == "1"
         and said("systemctl", "is-active", UNIT) == "active")
    found["restarts_after_hang"] = int(properties("NRestarts")["NRestarts"])
    subprocess.run(["systemctl", "stop", UNIT], check=True)
    found["stopped"] = properties("Result", "ActiveState")
    found["left"] = sorted(map(str, Path("/run").glob("pagepulse*")))


def main() -> None:
    """Whatever happens is written down."""
    found: dict = {"trouble": ""}
    try:
        find_out(found)
    except Exception:  # noqa: BLE001 - the machine outside has to hear of it
        found["trouble"] = traceback.format_exc() + said("journalctl", "-u", UNIT, "--no-pager", "-n", "60")
    Path("/found.json").write_text(json.dumps(found))
    os.sync()


if __name__ == "__main__":
    main()
