"""The processors of this machine: name, load, those that may be used, and pinning to some of them."""

from __future__ import annotations

import gc
import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from cspbench.errors import ConfigError
from cspbench.machine.quota import cpu_quota
from cspbench.version import __version__

IDLE_SECONDS = 0.1
"""Seconds for which processors are watched before the idlest are chosen."""


def processor_name() -> str:
    """Name of the processor, e.g. ``AMD EPYC 9654``."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), platform.machine())


def machine() -> dict[str, Any]:
    """Facts about this machine for a protocol: processor, quota, threads, load, versions."""
    import torch

    return {
        "processor": processor_name(),
        "processors": allowed_processors(),
        "cpu_quota": cpu_quota(),
        "threads": torch.get_num_threads(),
        "load_average": load_average(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def environment() -> dict[str, Any]:
    """Return what the rounding of a training in this process depends on, as JSON.

    Returns:
        ``processor``, ``instructions`` (that torch uses), ``threads`` and ``versions``, of which ``code`` is a hash of
        this package's Python files.
    """
    import numpy
    import torch

    versions = {"cspbench": __version__, "code": _code(), "torch": torch.__version__, "numpy": numpy.__version__}
    return {
        "processor": processor_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "versions": versions | {"python": platform.python_version()},
    }


@cache
def _code() -> str:
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def load_average() -> float | None:
    """Mean number of processes that ran or wanted to within the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def allowed_processors() -> list[int]:
    """Numbers of the processors this process may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def usable_threads() -> int:
    """Threads that can run at a time: at most one a processor, and no more than the CPU quota allows; at least 1."""
    processors = len(allowed_processors()) or os.cpu_count() or 1
    quota = cpu_quota()
    return processors if quota is None else max(1, min(processors, int(quota)))


def check_threads(threads: int) -> None:
    """Refuse more threads than can run at a time.

    Raises:
        ConfigError: says how many can, and whether processors or a quota limit them.
    """
    most = usable_threads()
    if threads > most:
        quota = cpu_quota()
        limit = (
            f"the CPU quota of its control group is {quota:g}"
            if quota is not None and quota < threads
            else (f"this process may use {len(allowed_processors()) or os.cpu_count()} processors")
        )
        raise ConfigError(f"{threads} threads cannot run at a time here: {limit}; ask for {most} at most")


@contextmanager
def pinned(threads: int) -> Iterator[list[int]]:
    """Run with so many torch threads on as many processors, the idlest ones; yields their numbers.

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
    """Seconds that processors were busy, and were stolen by other guests, since the start; None where unknown."""
    times = psutil.cpu_times(percpu=True)
    configured = os.sysconf("SC_NPROCESSORS_CONF") if hasattr(os, "sysconf") else len(times)
    if not processors or len(times) != configured:  # psutil leaves out processors that are off, and gives no numbers
        return None
    chosen = [times[index]._asdict() for index in processors]
    busy = sum(one.get(kind, 0.0) for one in chosen for kind in ("user", "nice", "system", "irq", "softirq"))
    return {"busy": busy, "steal": sum(one.get("steal", 0.0) for one in chosen)}


def _idlest(allowed: list[int], wanted: int) -> list[int]:
    """The processors with the least load just now; the last ones where that is unknown or equal."""
    if len(allowed) <= wanted:
        return allowed
    before = {index: processor_seconds([index]) for index in allowed}
    time.sleep(IDLE_SECONDS)

    def busy(index: int) -> float:
        earlier, later = before[index], processor_seconds([index])
        return later["busy"] - earlier["busy"] if earlier and later else 0.0

    return sorted(sorted(allowed, reverse=True), key=busy)[:wanted]
