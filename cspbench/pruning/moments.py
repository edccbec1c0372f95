"""Running means of products of a matrix's inputs, and the fraction of zeros in named matrices."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn


@contextmanager
def observing(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


class MeanProducts:
    """Means of outer products by weight name, summed up as calibration data streams by."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, left: Tensor, right: Tensor) -> None:
        """Add the outer products of rows: `left` (n, a) with `right` (n, b)."""
        self._sums[name] = self._sums.get(name, 0) + left.T @ right
        self._counts[name] = self._counts.get(name, 0) + len(right)

    def __contains__(self, name: str) -> bool:
        return name in self._sums

    def reduce(self, group: Any) -> None:
        """Add up what the processes of a group have seen; all have the same names."""
        for name in sorted(self._sums):
            count = torch.tensor(self._counts[name], device=self._sums[name].device)
            distributed.all_reduce(self._sums[name], group=group)
            distributed.all_reduce(count, group=group)
            self._counts[name] = int(count)

    def means(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Means by name, each of shape (a, b); raises KeyError for a name of which nothing was added."""
        return {name: self._sums[name] / self._counts[name] for name in names}


def overall_sparsity(weights: Mapping[str, Tensor]) -> float:
    """Fraction of zeros among all the weights together, counted."""
    total = sum(w.numel() for w in weights.values())
    return sum(int((w == 0).sum()) for w in weights.values()) / total if total else 0.0


def layer_sparsity(weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Fraction of zeros of each matrix, counted."""
    return {name: overall_sparsity({name: w}) for name, w in weights.items()}
