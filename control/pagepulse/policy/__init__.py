# SPDX-License-Identifier: GPL-2.0-only
"""What should be done: schemes, matching, budgets. Pure: it decides, and does nothing."""
