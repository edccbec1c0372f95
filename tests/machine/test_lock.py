"""Locks of the machine across processes; the clock decides nothing but that a wait ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cspbench.errors import CspbenchError
from cspbench.machine import lock
from cspbench.machine.lock import lock_folder, measuring, working

pytestmark = pytest.mark.skipif(lock.fcntl is None, reason="no shared locks on this system")

MEASURE = """
import sys, time
from cspbench.machine.lock import measuring
for _ in range(5):
    with measuring():
        with open(sys.argv[1], "a") as log:
            log.write("in\\n"); log.flush()
            time.sleep(0.01)
            log.write("out\\n")
"""

WORK = """
import sys
from pathlib import Path
from cspbench.machine.lock import working
steps = 0
with working() as step_aside:
    while True:
        step_aside()
        steps += 1
        Path(sys.argv[1]).write_text(str(steps))
"""

Start = Callable[[str, Path], "subprocess.Popen[bytes]"]


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real folder, in a temporary place that child processes find as well."""
    monkeypatch.setattr(lock, "lock_folder", lock_folder)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def start() -> Iterator[Start]:
    running = []

    def run(code: str, file: Path) -> subprocess.Popen[bytes]:
        running.append(subprocess.Popen([sys.executable, "-c", code, str(file)]))
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.wait()


def until(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


def steps_in(file: Path) -> int:
    text = file.read_text() if file.exists() else ""
    return int(text) if text else 0


def test_two_processes_never_measure_at_the_same_time(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for process in [start(MEASURE, log) for _ in range(3)]:
        assert process.wait() == 0
    lines = log.read_text().split()
    assert lines == ["in", "out"] * 15


def test_a_reservation_within_a_reservation_is_the_same() -> None:
    with measuring() as outer, measuring() as inner:
        assert inner is outer
    with measuring() as next_one:
        assert next_one is not outer


def test_work_steps_aside_while_somebody_measures_and_goes_on_afterwards(start: Start, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b")]  # two of them never let the room fall empty by themselves
    for file in files:
        start(WORK, file)
    until(lambda: all(steps_in(file) > 5 for file in files))
    with measuring() as reservation:
        assert reservation.alone
        before = [file.read_text() for file in files]
        time.sleep(0.2)
        assert [file.read_text() for file in files] == before
    until(lambda: all(steps_in(file) > int(count or 0) + 5 for file, count in zip(files, before, strict=True)))


def test_locks_go_with_their_holder(start: Start, tmp_path: Path) -> None:
    stuck = "import sys, time\nfrom cspbench.machine.lock import measuring\n"
    stuck += "with measuring():\n    open(sys.argv[1], 'w').close()\n    time.sleep(600)"
    process = start(stuck, tmp_path / "held")
    until((tmp_path / "held").exists)
    process.kill()
    with measuring() as reservation:
        assert reservation.alone


def test_work_that_comes_to_no_safe_point_is_measured_beside_and_that_is_told(start: Start, tmp_path: Path) -> None:
    busy = "import sys, time\nfrom cspbench.machine.lock import working\n"
    busy += "with working():\n    open(sys.argv[1], 'w').close()\n    time.sleep(600)"
    start(busy, tmp_path / "busy")
    until((tmp_path / "busy").exists)
    with measuring(patience=0.05) as reservation:
        assert not reservation.alone
        assert not reservation.undisturbed


def test_a_measurement_that_takes_longer_than_work_waits_is_not_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(lock.time, "monotonic", lambda: now[0])
    reservation = lock.Reservation(alone=True, waited=0.0, began=100.0)
    assert reservation.undisturbed
    now[0] += lock.LONGEST_PAUSE
    assert reservation.alone
    assert not reservation.undisturbed


def test_a_measurement_that_hangs_stops_work_once_not_at_every_step(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = "import sys, time\nfrom cspbench.machine.lock import measuring\n"
    stuck += "with measuring():\n    open(sys.argv[1], 'w').close()\n    time.sleep(600)"
    start(stuck, tmp_path / "held")
    until((tmp_path / "held").exists)
    waits = []
    monkeypatch.setattr(lock, "LONGEST_PAUSE", 0.05)
    monkeypatch.setattr(lock.time, "sleep", lambda seconds: waits.append(seconds) or os.sched_yield())
    with working() as step_aside:
        paused = len(waits)
        assert paused > 0
        for _ in range(100):
            step_aside()
    assert len(waits) == paused


def test_the_folder_of_the_locks_is_private(tmp_path: Path) -> None:
    folder = lock_folder()
    assert folder.parent == tmp_path
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    with pytest.raises(CspbenchError, match="only you can open"):
        lock_folder()
    folder.rmdir()
    folder.touch(mode=0o600)
    with pytest.raises(CspbenchError, match="only you can open"):
        lock_folder()
    folder.unlink()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CspbenchError, match="only you can open"):
        lock_folder()
