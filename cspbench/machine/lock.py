"""Locks of the machine: measurements exclude each other, and heavy work pauses while one runs.

There are two locks, in a folder of the user's own under the system's temporary one. A measurement takes the *gate*
alone, so that nobody else gets past it, and then the *room*, as soon as everybody at work has paused. Work shares the
room and passes the gate between its steps. A lock goes when its holder dies. Work pauses for `LONGEST_PAUSE` at most.

Not filelock's `ReadWriteLock`: it keeps the lock in an SQLite database, and passing the gate takes 267 us there (median
of 300; EPYC 9005, filelock 4.2), 1.8 us here. Training does that at every step.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from cspbench.errors import CspbenchError

try:
    import fcntl
except ImportError:  # no shared locks there: measurements exclude each other, work does not pause
    fcntl = None  # type: ignore[assignment]

PATIENCE = 30.0
"""Seconds a measurement waits for work to pause; then it is taken beside that work, and says so."""

LONGEST_PAUSE = 600.0
"""Seconds work pauses at most: a measurement that was suspended must not stop a sweep."""

_POLL = 0.02


@dataclass(frozen=True)
class Reservation:
    """The reservation of the machine for one measurement.

    Attributes:
        alone: all of this user's work that takes these locks had paused when it began.
        waited: seconds until it began.
        began: by the monotonic clock.
    """

    alone: bool
    waited: float
    began: float = field(default_factory=time.monotonic)

    @property
    def undisturbed(self) -> bool:
        """All work is paused, and no paused worker has timed out since."""
        return self.alone and time.monotonic() - self.began < LONGEST_PAUSE


_current: ContextVar[Reservation | None] = ContextVar("reservation", default=None)


@contextmanager
def measuring(patience: float = PATIENCE) -> Iterator[Reservation]:
    """Reserve the machine: no other process of this user measures on it, and work is paused.

    Within a reservation of the same thread it yields that one. Not to be called from within `working`.

    Args:
        patience: seconds to wait for work to pause. The wait for other measurements has no limit.
    """
    outer = _current.get()
    if outer is not None:
        yield outer
        return
    began = time.monotonic()
    folder = lock_folder()
    with ExitStack() as held:
        if fcntl is None:
            held.enter_context(FileLock(folder / "gate"))
            alone = False
        else:
            gate, room = (held.enter_context(_opened(folder / name)) for name in ("gate", "room"))
            fcntl.flock(gate, fcntl.LOCK_EX)
            alone = _try_until(room, fcntl.LOCK_EX, patience)
        reservation = Reservation(alone, time.monotonic() - began)
        token = _current.set(reservation)
        held.callback(_current.reset, token)
        yield reservation


@contextmanager
def working() -> Iterator[Callable[[], None]]:
    """Do heavy work that pauses during measurements; yields a function to call between steps, which may pause there.

    A call takes two microseconds while nobody measures. Not to be nested: the outer one would never pause.
    """
    if fcntl is None:
        yield lambda: None
        return
    folder = lock_folder()
    with _opened(folder / "gate") as gate, _opened(folder / "room") as room:
        patience = LONGEST_PAUSE

        def pause() -> None:
            nonlocal patience
            fcntl.flock(room, fcntl.LOCK_UN)
            if not _try_until(gate, fcntl.LOCK_SH, patience):
                patience = 0.0  # that measurement has lost its claim: one long pause is enough
                return
            patience = LONGEST_PAUSE
            # While the gate is held no measurement can be in the room, so that this cannot block.
            fcntl.flock(room, fcntl.LOCK_SH)
            fcntl.flock(gate, fcntl.LOCK_UN)

        pause()
        yield pause


def lock_folder() -> Path:
    """Return the folder of the locks, made if needed: this user's own, so that nobody else can replace anything in it.

    Raises:
        CspbenchError: something of that name is there, and is not a private folder of this user.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    path = Path(tempfile.gettempdir()) / f"cspbench-{user}"
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    private = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o077)
    if not stat.S_ISDIR(found.st_mode) or not private:
        raise CspbenchError(f"{path} should be a folder that only you can open: remove it, or set TMPDIR elsewhere")
    return path


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        yield descriptor
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough where a child has inherited the descriptor
        os.close(descriptor)


def _try_until(descriptor: int, kind: int, seconds: float) -> bool:
    """Try to take a lock for so many seconds; return True if it was taken."""
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL)
        else:
            return True
