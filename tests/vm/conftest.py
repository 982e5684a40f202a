# SPDX-License-Identifier: GPL-2.0-only
"""What ran in machines is told at the end: pytest keeps what a passed test prints to itself."""

from __future__ import annotations

import pytest

from vm.results import told


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if told:
        terminalreporter.section("in virtual machines")
        for line in told:
            terminalreporter.write_line(line)
