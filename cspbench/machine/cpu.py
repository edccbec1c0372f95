"""The machine a latency is measured on: what it is, and which of its processors the measurement keeps to."""

from __future__ import annotations

import gc
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

IDLE_SECONDS = 0.1
"""How long processors are watched before the idlest are chosen."""


def processor_name() -> str:
    """The processor in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), platform.machine())


def machine() -> dict[str, Any]:
    """Where something ran: processor, threads, load, versions."""
    import torch

    return {
        "processor": processor_name(),
        "processors": allowed_processors(),
        "threads": torch.get_num_threads(),
        "load_average": load_average(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def load_average() -> float | None:
    """Mean number of processes that ran or wanted to within the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def allowed_processors() -> list[int]:
    """Processors this process may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextmanager
def pinned(threads: int) -> Iterator[list[int]]:
    """Run with so many torch threads, on as many processors, the idlest ones; yields those processors.

    All threads of the process are tied to them, those of pools that were made before included; where the system cannot
    do that nothing is tied and nothing yielded.
    """
    torch = sys.modules.get("torch")  # an engine without torch must not pay for its import
    before = torch.get_num_threads() if torch else 0
    allowed = allowed_processors()
    chosen = _idlest(allowed, threads)
    if torch:
        torch.set_num_threads(threads)
    _tie_all_threads(chosen)
    try:
        yield chosen
    finally:
        _tie_all_threads(allowed)
        if torch:
            torch.set_num_threads(before)


def _tie_all_threads(processors: list[int]) -> None:
    if not processors:
        return
    os.sched_setaffinity(0, processors)
    for task in Path("/proc/self/task").glob("*"):
        with suppress(OSError):  # it has ended meanwhile
            os.sched_setaffinity(int(task.name), processors)


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect garbage now, and not again until the end."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def processor_seconds(processors: list[int]) -> dict[str, float] | None:
    """Seconds that processors were busy, and were stolen by other guests, since the start; None where unknown.

    Raises:
        Nothing: a system without ``/proc/stat`` is one that does not tell.
    """
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        ticks = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None
    names = {f"cpu{index}" for index in processors}
    rows = [[int(x) for x in line.split()[1:9]] for line in lines if line.split(" ", 1)[0] in names]
    if not rows:
        return None
    user, nice, system, _idle, _waiting, irq, softirq, steal = (
        sum(column) / ticks for column in zip(*rows, strict=True)
    )
    return {"busy": user + nice + system + irq + softirq, "steal": steal}


def _idlest(allowed: list[int], wanted: int) -> list[int]:
    """The processors with the least to do just now; the last ones where that is unknown or equal."""
    if len(allowed) <= wanted:
        return allowed
    before = {index: processor_seconds([index]) for index in allowed}
    time.sleep(IDLE_SECONDS)

    def busy(index: int) -> float:
        earlier, later = before[index], processor_seconds([index])
        return later["busy"] - earlier["busy"] if earlier and later else 0.0

    return sorted(sorted(allowed, reverse=True), key=busy)[:wanted]
