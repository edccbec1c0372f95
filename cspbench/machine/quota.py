"""The CPU quota of this process: the least of its own control group and of every group around that.

Read from ``/proc/self/cgroup`` and ``/proc/self/mountinfo``, for cgroup v1 (`cpu` controller) and v2, also where both
are mounted. A system without control groups has no quota.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

PROC = Path("/proc/self")
Mount = tuple[str, list[str], PurePosixPath, Path]


@dataclass(frozen=True)
class ControlGroup:
    """A control group that may limit this process: its folder and the version of the interface."""

    folder: Path
    version: Literal[1, 2]

    @property
    def quota(self) -> float | None:
        """Processors it may use, e.g. 0.5; None for no limit."""
        if self.version == 2:
            limit, period = _words(self.folder / "cpu.max", 2)
        else:
            (limit,), (period,) = (_words(self.folder / f"cpu.cfs_{name}_us", 1) for name in ("quota", "period"))
        if not limit.isdigit() or not period.isdigit() or not int(period):  # "max", "-1", or no such file
            return None
        return int(limit) / int(period)

    @property
    def periods(self) -> tuple[int, int]:
        """Periods in which the quota was enforced, and those of them in which it stopped a thread, since the start."""
        try:
            rows = dict(line.split() for line in (self.folder / "cpu.stat").read_text().splitlines())
            return int(rows["nr_periods"]), int(rows["nr_throttled"])
        except (OSError, ValueError, KeyError):
            return 0, 0


def control_groups(proc: Path = PROC) -> list[ControlGroup]:
    """Return the groups with a CPU limit that this process is in, nested ones included."""
    try:
        groups = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
        mounts = [_mount(line) for line in (proc / "mountinfo").read_text().splitlines()]
    except OSError:
        return []
    found: list[ControlGroup] = []
    for _, controllers, path in groups:
        for kind, options, root, place in mounts:
            if not controllers and kind == "cgroup2":  # v2 has a line without controllers
                found += (ControlGroup(folder, 2) for folder in _upwards(PurePosixPath(path), root, place))
            elif "cpu" in controllers.split(",") and kind == "cgroup" and "cpu" in options:
                found += (ControlGroup(folder, 1) for folder in _upwards(PurePosixPath(path), root, place))
    return found


def cpu_quota(proc: Path = PROC) -> float | None:
    """Return how many processors this process may use at a time, by quota; None for no limit."""
    limits = [quota for group in control_groups(proc) if (quota := group.quota) is not None]
    return min(limits, default=None)


def _mount(line: str) -> Mount:
    """Return kind, options, root and place of a line of mountinfo; see proc(5)."""
    before, _, after = line.partition(" - ")
    fields, (kind, _, options) = before.split(), after.split(maxsplit=2)
    root, place = (re.sub(r"\\(\d{3})", lambda m: chr(int(m[1], 8)), field) for field in fields[3:5])
    return kind, options.split(","), PurePosixPath(root), Path(place)


def _upwards(group: PurePosixPath, root: PurePosixPath, place: Path) -> Iterator[Path]:
    """Folders of a group and of those around it, as far as the mount shows them."""
    # Seen from another namespace a path may lie outside the root: then the mount itself is the innermost group.
    folder = place / group.relative_to(root) if group.is_relative_to(root) else place
    while True:
        yield folder
        if folder == place:
            return
        folder = folder.parent


def _words(file: Path, count: int) -> list[str]:
    try:
        words = file.read_text().split()
    except OSError:
        words = []
    return (words + [""] * count)[:count]
