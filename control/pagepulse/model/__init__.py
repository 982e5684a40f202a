# SPDX-License-Identifier: GPL-2.0-only
"""What the samples mean: windows, regions, snapshots. Pure: no clock, no files, no kernel."""
