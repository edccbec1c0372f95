"""Use of the machine while a trial runs: processors, memory and GPU, sampled every few seconds."""

from __future__ import annotations

import json
import time
from importlib.util import find_spec
from pathlib import Path

import psutil

from cspbench.store import make_folder
from cspbench.training.events import Event, Listener

MEGABYTE = 1e6
"""Bytes, as MLflow counts them."""


class UsageLog:
    """Listener that samples the use of the machine, and passes events on.

    A sample is taken at the first event after `interval` seconds. No thread takes it: between events, and so during
    latency measurements, nothing runs.

    A row of the file holds ``step`` (number of the sample), ``time`` (seconds since 1970) and metrics named as MLflow
    names its own: ``cpu_utilization_percentage`` and ``system_memory_usage_percentage`` of the machine,
    ``process_cpu_percentage`` (100 is one processor) and ``process_memory_megabytes`` of this process, and
    ``gpu_0_memory_usage_percentage`` once the process uses a GPU, with ``gpu_0_utilization_percentage`` where
    nvidia-ml-py is installed. Processor time is a mean since the last sample.

    Args:
        path: the file; rows are added to what a stopped run of the trial left.
        interval: seconds between two samples, at least.
        listener: called with every event.
    """

    def __init__(self, path: Path, interval: float, listener: Listener) -> None:
        self._path, self._interval, self._listener = path, interval, listener
        self._process = psutil.Process()
        self._step = len(path.read_bytes().splitlines()) if path.is_file() else 0
        self._next = time.monotonic() + interval
        psutil.cpu_percent()  # both count from here
        self._process.cpu_percent()

    def __call__(self, event: Event) -> None:
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._interval
            self._sample()
        self._listener(event)

    def _sample(self) -> None:
        row = {"step": self._step, "time": time.time(), **_machine(), **self._own(), **_gpu()}
        make_folder(self._path.parent)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._step += 1

    def _own(self) -> dict[str, float]:
        with self._process.oneshot():
            return {
                "process_cpu_percentage": self._process.cpu_percent(),
                "process_memory_megabytes": self._process.memory_info().rss / MEGABYTE,
            }


def _machine() -> dict[str, float]:
    memory = psutil.virtual_memory()
    return {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system_memory_usage_percentage": 100 * memory.used / memory.total,
    }


def _gpu() -> dict[str, float]:
    """Return the use of the current GPU; nothing where this process uses none."""
    import torch

    if not torch.cuda.is_initialized():
        return {}
    gpu = f"gpu_{torch.cuda.current_device()}"
    free, total = torch.cuda.mem_get_info()
    found = {
        f"{gpu}_memory_usage_megabytes": (total - free) / MEGABYTE,
        f"{gpu}_memory_usage_percentage": 100 * (total - free) / total,
    }
    if find_spec("pynvml") is not None:
        found[f"{gpu}_utilization_percentage"] = float(torch.cuda.utilization())
    return found
