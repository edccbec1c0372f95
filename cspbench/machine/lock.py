"""Who has the machine: measurements exclude each other, and heavy work steps aside for them.

Two locks, in a folder of the user's own under the system's temporary one. A measurement takes the *gate*, which holds
newcomers back, and then the *room*, which it gets when everybody at work has come to a safe point. Work shares the
room, and passes the gate between its steps. Locks go when their holder dies, and work waits `LONGEST_PAUSE` at most.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from cspbench.errors import CspbenchError

try:
    import fcntl
except ImportError:  # no shared locks there: measurements exclude each other, work does not step aside
    fcntl = None  # type: ignore[assignment]

PATIENCE = 30.0
"""Seconds a measurement waits for work to come to a safe point; then it is taken beside that work, and says so."""

LONGEST_PAUSE = 600.0
"""Seconds work steps aside at most: a measurement that was suspended must not stop a sweep."""

_POLL = 0.02


@dataclass(frozen=True)
class Turn:
    """A measurement's turn.

    Attributes:
        alone: all of this user's work that takes part stepped aside.
        waited: seconds until the turn came.
        came: when it came, by the monotonic clock.
    """

    alone: bool
    waited: float
    came: float = field(default_factory=time.monotonic)

    @property
    def undisturbed(self) -> bool:
        """All work stepped aside, and none can have grown tired of waiting since."""
        return self.alone and time.monotonic() - self.came < LONGEST_PAUSE


@contextmanager
def measuring(patience: float = PATIENCE) -> Iterator[Turn]:
    """Measure while no other process of this user on this machine measures, and work steps aside.

    Not to be called from within `working`.

    Args:
        patience: seconds to wait for work to come to a safe point. The wait for other measurements has no limit.
    """
    began = time.monotonic()
    folder = lock_folder()
    with ExitStack() as held:
        if fcntl is None:
            held.enter_context(FileLock(folder / "gate"))
            yield Turn(alone=False, waited=time.monotonic() - began)
            return
        gate, room = (held.enter_context(_opened(folder / name)) for name in ("gate", "room"))
        fcntl.flock(gate, fcntl.LOCK_EX)
        alone = _try_until(room, fcntl.LOCK_EX, patience)
        yield Turn(alone, time.monotonic() - began)


@contextmanager
def working() -> Iterator[Callable[[], None]]:
    """Do heavy work that measurements wait for; yields what to call between steps, where it may be made to pause.

    A call takes some microseconds while nobody measures. Not to be nested: the outer one would not step aside.
    """
    if fcntl is None:
        yield lambda: None
        return
    folder = lock_folder()
    with _opened(folder / "gate") as gate, _opened(folder / "room") as room:
        patience = LONGEST_PAUSE

        def step_aside() -> None:
            nonlocal patience
            fcntl.flock(room, fcntl.LOCK_UN)
            if not _try_until(gate, fcntl.LOCK_SH, patience):
                patience = 0.0  # that measurement has lost its claim: one long pause is enough
                return
            patience = LONGEST_PAUSE
            # While the gate is held no measurement can be in the room, so that this cannot block.
            fcntl.flock(room, fcntl.LOCK_SH)
            fcntl.flock(gate, fcntl.LOCK_UN)

        step_aside()
        yield step_aside


def lock_folder() -> Path:
    """Folder of the locks: this user's own, so that nobody else can put anything in its place.

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
    """Take a lock within so many seconds, or not."""
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
