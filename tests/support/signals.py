"""Sparse rows and what is measured of them."""

from __future__ import annotations

import torch

from cspbench.sensing import Operator

GPU = torch.cuda.is_available()


def sparse_rows(rows: int, columns: int, count: int, seed: int = 0) -> torch.Tensor:
    """Rows of `count` entries of absolute value 1 or more at random places."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, columns, generator=generator)
    x = x + x.sign()
    places = torch.rand(rows, columns, generator=generator).topk(count, dim=1).indices
    return x * torch.zeros_like(x).scatter_(1, places, 1.0)


def correlations(operator: Operator, x: torch.Tensor) -> torch.Tensor:
    """Of the rows' own measurements."""
    return operator.adjoint(operator.measure(x))


def distance(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Relative to the truth, by row."""
    return (found - truth).norm(dim=1) / truth.norm(dim=1)
