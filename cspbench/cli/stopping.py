"""Ctrl-C and SIGTERM for commands that run trials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cspbench.errors import InterruptedSweepError
from cspbench.machine.stop import stoppable

NOTICE = "stopping at the next checkpoint; Ctrl-C again stops at once"


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Stop the work within it at a checkpoint at the first Ctrl-C or SIGTERM, and at once at the second.

    Raises:
        InterruptedSweepError: the work was stopped.
    """
    with stoppable(NOTICE):
        try:
            yield
        except KeyboardInterrupt:
            raise InterruptedSweepError from None
