"""Outcome of pruning a model, counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cspbench.pruning.moments import layer_sparsity, overall_sparsity


@dataclass(frozen=True)
class PruningReport:
    """Zeros of a model, counted.

    Attributes:
        method: name of the method.
        requested: sparsity that was asked for: fraction of zeros among all prunable weights.
        sparsity: that there is.
        weights: number of prunable weights.
        layers: sparsity of each weight matrix, by name.
        step: optimiser steps done.
        total: optimiser steps of the whole training.
    """

    method: str
    requested: float
    sparsity: float
    weights: int
    layers: Mapping[str, float]
    step: int
    total: int

    def __str__(self) -> str:
        width = max(map(len, self.layers), default=0)
        head = f"{self.method}: {self.sparsity:.2%} of {self.weights:,} weights are zero, step {self.step}/{self.total}"
        return "\n".join([head, *(f"  {name:{width}}  {zeros:.2%}" for name, zeros in self.layers.items())])


def report_on(method: str, requested: float, weights: Mapping[str, Tensor], step: int, total: int) -> PruningReport:
    """Count the zeros of weight matrices."""
    count = sum(w.numel() for w in weights.values())
    return PruningReport(method, requested, overall_sparsity(weights), count, layer_sparsity(weights), step, total)
