"""Kinds of failures."""

from __future__ import annotations

import pytest
import torch

from cspbench.errors import ConfigError, PruningError
from cspbench.trials.outcome import reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConfigError("no such method"), "refused"),
        (PruningError("nothing is prunable"), "refused"),
        (FloatingPointError("the loss became nan"), "diverged"),
        (MemoryError(), "memory"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), "memory"),
        (OSError(28, "No space left on device"), "storage"),
        (RuntimeError("anything else"), "crashed"),
    ],
)
def test_exceptions_have_a_kind(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason
