"""GPUs shared by worker processes: how many, and which takes which."""

from __future__ import annotations

from typing import Literal

import torch

from cspbench.machine.cpu import usable_threads
from cspbench.training.dense import resolve_device

TRIAL_BYTES = 4 * 2**30
"""GPU memory set aside for a trial by ``auto``: CUDA's own, a `small` recogniser, and the lattice of 16 utterances."""


def worker_count(workers: int, trials_per_gpu: int | Literal["auto"] | None, device: str) -> int:
    """Return the number of worker processes of this machine.

    On GPUs it is `trials_per_gpu` for each of them, where that is given; ``auto`` is the free memory of the fullest
    GPU divided by `TRIAL_BYTES`, at most the processor's threads divided by the number of GPUs, and at least 1. A small
    recogniser leaves most of a GPU idle, and each process keeps one thread busy with launching kernels.

    Args:
        workers: their number on a CPU, and where `trials_per_gpu` is None.
        trials_per_gpu: processes that share a GPU.
        device: as in a sweep file.

    Raises:
        CspbenchError: the device is not there.
    """
    place = resolve_device(device)
    if trials_per_gpu is None or place.type != "cuda":
        return workers
    gpus = range(torch.cuda.device_count()) if place.index is None else [place.index]
    if trials_per_gpu == "auto":
        free = min(torch.cuda.mem_get_info(gpu)[0] for gpu in gpus)
        trials_per_gpu = max(1, min(free // TRIAL_BYTES, usable_threads() // len(gpus)))
    return trials_per_gpu * len(gpus)


def take_place(index: int, workers: int, device: str) -> str:
    """Take one worker's part of the processor's threads, and return its device.

    Args:
        index: number of this worker, from 0.
        workers: number of workers that divide the machine.
        device: as in a sweep file; unless it names a GPU, workers are spread over all there are.
    """
    torch.set_num_threads(max(1, usable_threads() // workers))
    if device in ("auto", "cuda") and torch.cuda.device_count() > 1:
        return f"cuda:{index % torch.cuda.device_count()}"
    return device
