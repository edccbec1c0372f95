"""The number of trials that share a GPU; CUDA is pretended."""

from __future__ import annotations

import pytest
import torch

from cspbench.errors import CspbenchError
from cspbench.trials.gpus import worker_count

GIB = 2**30


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 and 80 GiB of memory, of which 30 and 60 are free, and 16 threads."""
    memory = [(30 * GIB, 40 * GIB), (60 * GIB, 80 * GIB)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: memory[gpu])
    monkeypatch.setattr("cspbench.trials.gpus.usable_threads", lambda: 16)


@pytest.mark.parametrize(
    ("trials_per_gpu", "device", "expected"),
    [
        (None, "auto", 3),  # nothing said: the workers of the file
        (5, "cpu", 3),
        (5, "auto", 10),
        (5, "cuda", 10),
        (5, "cuda:1", 5),
        ("auto", "cuda", 14),  # the fullest GPU has room for 30 // 4 = 7
        ("auto", "cuda:1", 15),  # 60 // 4
    ],
)
def test_workers_on_gpus(two_gpus: None, trials_per_gpu: int | None, device: str, expected: int) -> None:
    assert worker_count(3, trials_per_gpu, device) == expected


def test_auto_runs_no_more_trials_than_threads_and_at_least_one(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cspbench.trials.gpus.usable_threads", lambda: 4)
    assert worker_count(1, "auto", "cuda:1") == 4
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu: (GIB, 40 * GIB))
    assert worker_count(1, "auto", "cuda:1") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA")
def test_without_a_gpu_the_workers_of_the_file_hold() -> None:
    assert worker_count(3, "auto", "auto") == 3
    with pytest.raises(CspbenchError, match="sees no CUDA device"):
        worker_count(3, 2, "cuda")
