# SPDX-License-Identifier: GPL-2.0-only
"""Service: pagepulse as a daemon. What it is told, what it does for weeks, and what it tells."""
