# SPDX-License-Identifier: GPL-2.0-only
"""Programs that compute: some run all the time, some do one piece of work and end."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from bench.programs.program import Job, Service

NO_HUGE_PAGES = {"NUMPY_MADVISE_HUGEPAGE": "0"}
"""numpy asks for huge pages of itself; where a scheme is to make them, it must not."""


class Kmeans(Service):
    """Everything is warm: a scan over all of it, again and again."""

    name = "scikit-learn"
    about = "scikit-learn, mini-batch k-means over 512 MiB, again and again: everything is warm"

    def start(self) -> None:
        """The load is the program."""
        self.pid = self.load("load_science.py", "kmeans", str(512 << 20)).pid


class Phases(Service):
    """Hostile to reclaim: what is idle comes back."""

    name = "numpy-phases"
    about = "numpy, an eighth of 512 MiB for 8 s, then the next, and back again: what is idle returns"

    def start(self) -> None:
        """The load is the program."""
        self.pid = self.load("load_science.py", "phases", str(512 << 20)).pid


class Sparse(Service):
    """Where huge pages pay in one place, and waste memory in another."""

    name = "numpy-sparse"
    about = "numpy, reads at random from 512 MiB; of 1.5 GiB more, one page in 2 MiB was touched once"

    def start(self) -> None:
        """The load is the program."""
        self.pid = self.load("load_science.py", "sparse", str(2 << 30), environment=NO_HUGE_PAGES).pid


class Idle(Service):
    """The best case of reclaim: nearly all of it is idle."""

    name = "numpy-idle"
    about = "numpy, 512 MiB of which a hundredth is used"

    def start(self) -> None:
        """The load is the program."""
        self.pid = self.load("load_science.py", "idle", str(512 << 20)).pid


class Gather(Service):
    """Where huge pages pay."""

    name = "numpy-gather"
    about = "numpy, reads at random from 1 GiB: where huge pages pay"

    def start(self) -> None:
        """The load is the program."""
        self.pid = self.load("load_science.py", "gather", str(1 << 30), environment=NO_HUGE_PAGES).pid


class Compiler(Job):
    """One run of the compiler proper for each measurement; it waits for its source, so that it can be watched whole."""

    name = "gcc"
    about = "gcc's cc1 -O2 on a source of 180 long functions, a new process each time"
    OPERATIONS = 180

    def start(self) -> None:
        """The source."""
        found = subprocess.run(["gcc", "-print-prog-name=cc1"], capture_output=True, text=True, check=True)
        self._cc1 = found.stdout.strip()
        self._source = "\n".join(_FUNCTION.replace("NUMBER", str(number)) for number in range(self.OPERATIONS)).encode()

    def prepare(self) -> None:
        """A compiler that waits for its source."""
        self._process = self.spawn(self._cc1, "-quiet", "-O2", "-", "-o", "/dev/null", stdin=subprocess.PIPE)
        self.pid = self._process.pid
        self.await_(lambda: Path(f"/proc/{self.pid}/comm").read_text().strip() == "cc1", "the compiler")

    def begin(self) -> subprocess.Popen[bytes]:
        """Give it its source."""
        assert self._process.stdin is not None
        self._process.stdin.write(self._source)
        self._process.stdin.close()
        return self._process


_FUNCTION = """
int f_NUMBER(int *a, int n, double *d) {
    int s = NUMBER;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < i; j++) s += a[i] * a[j] ^ (a[i] << (j & 7));
        switch (s & 7) { case 0: s += a[0]; break; case 1: s ^= n; break; case 2: d[i] *= s; break;
                         case 3: s -= i * n; break; case 5: d[i] += a[i] / (d[0] + 1); break; default: a[i] = s; }
    }
    return s;
}"""


class Stress(Job):
    """One run of a stressor for each measurement. It is stopped at its start, so that it can be watched whole."""

    name = "stress-ng"
    about = "stress-ng --vm 1, 256 MiB written in patterns and checked, a new process each time"
    OPERATIONS = 400_000

    def prepare(self) -> None:
        """A stressor that stands still."""
        self._process = self.spawn("stress-ng", "--vm", "1", "--vm-bytes", "256m", "--vm-method", "gray", "--vm-keep",
                                   "--vm-ops", str(self.OPERATIONS), "--no-rand-seed", "--temp-path", self.place)
        self.await_(lambda: len(_descendants(self._process.pid)) == 2, "the stressor", 10)
        self.pid = _descendants(self._process.pid)[-1]
        os.kill(self.pid, signal.SIGSTOP)

    def begin(self) -> subprocess.Popen[bytes]:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)
        return self._process


def _descendants(pid: int) -> list[int]:
    """The child of a process, the child of that, and so on."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [child for first in children[:1] for child in (int(first), *_descendants(int(first)))]
