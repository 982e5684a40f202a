# SPDX-License-Identifier: GPL-2.0-only
"""What goes on beside a test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def meanwhile(run: Callable[[threading.Event], None]) -> Iterator[None]:
    """Something runs in a thread of its own until the block is left: it is told so by the event, and waited for."""
    is_over = threading.Event()
    thread = threading.Thread(target=run, args=(is_over,))
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
