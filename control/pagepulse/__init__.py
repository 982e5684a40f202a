# SPDX-License-Identifier: GPL-2.0-only
"""pagepulse: which memory does a running program really use?"""

__version__ = "0.1.0"
