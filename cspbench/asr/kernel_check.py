"""Whether a Triton kernel may be used: it is tried before its first use."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from importlib.util import find_spec

import torch
from torch import Tensor

TOLERANCE = 1e-4


def kernel_works(what: str, ours: Callable[[], Iterable[Tensor]], theirs: Callable[[], Iterable[Tensor]]) -> bool:
    """Compare a kernel with torch's operations on a small problem; warn and return False if it fails or errs.

    Triton needs a compiler for its launcher and supports some GPUs only, which shows no sooner than at a launch. Where
    it is not installed, nothing is said.

    Args:
        what: the subject of the warning.
        ours: results by the kernel.
        theirs: the same by torch's operations.
    """
    if find_spec("triton") is None:
        return False
    try:
        found = list(ours())
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    else:
        pairs = zip(found, theirs(), strict=True)
        if all(torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE) for a, b in pairs):
            return True
        problem = "its results are wrong"
    warnings.warn(f"{what} runs without its Triton kernel, slower: {problem}", stacklevel=3)
    return False
