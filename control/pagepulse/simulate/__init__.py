# SPDX-License-Identifier: GPL-2.0-only
"""Memory whose truth is known, and DAMON's algorithm on it. Pure: a clock of its own, no kernel, no files."""
