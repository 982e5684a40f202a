# SPDX-License-Identifier: GPL-2.0-only
"""Snapshots as text, JSON and pictures. Pure: no kernel, no files; the verbs read and write."""
