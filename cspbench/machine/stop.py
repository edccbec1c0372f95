"""Requests to stop: work goes on to its next checkpoint, a second request ends it at once.

The command line turns signals into requests (`stoppable`); work asks between its steps whether there is one.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

_requested = False


def requested() -> bool:
    """Return whether this process was asked to stop."""
    return _requested


def check() -> None:
    """Stop here if that was asked for: to be called where nothing is lost.

    Raises:
        KeyboardInterrupt: a stop was requested.
    """
    if _requested:
        raise KeyboardInterrupt


def descriptor() -> int:
    """File descriptor that can be read from once a stop is requested: for processes that wait for others."""
    return _pipe()[0]


@contextmanager
def stoppable(notice: str) -> Iterator[None]:
    """Within it the first SIGINT or SIGTERM requests a stop, and the second raises KeyboardInterrupt at once.

    Args:
        notice: line for stderr at the first signal.
    """

    def handle(number: int, frame: object) -> None:
        if _requested:
            raise KeyboardInterrupt
        with suppress(OSError):
            os.write(2, f"{notice}\n".encode())  # not `print`, which a signal may have interrupted
        _request()

    _forget()
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _forget()


def obey_parent() -> None:
    """Request a stop at SIGTERM, however often it comes, and ignore Ctrl-C: for processes whose parent decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: _request())


def _request() -> None:
    global _requested
    if not _requested:
        _requested = True
        os.write(_pipe()[1], b"!")


def _forget() -> None:
    global _requested
    if _requested:
        _requested = False
        os.read(_pipe()[0], 1)


@cache
def _pipe() -> tuple[int, int]:
    return os.pipe()
