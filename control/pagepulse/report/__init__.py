# SPDX-License-Identifier: GPL-2.0-only
"""Snapshots into text, JSON and pictures."""
