"""Histograms of the prunable weights during a pruning run: when weights become zero, and which."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cspbench.training.steps import StepLog

LOWEST, HIGHEST = -4.0, 1.0
"""Decimal logarithms of the magnitudes that the bins lie between; what is beyond counts in the outermost."""

BINS = 20
MOMENTS = 12
"""Steps of a run at which weights are counted, at most."""


class WeightLog:
    """Counts of weights by magnitude, at evenly spread steps of a run.

    A row of the file holds ``step``, ``kept``: the weights that are not zero, by magnitude, and ``removed``: those that
    are zero, by the magnitude they had before the run. Both are lists of `BINS` counts. Nothing of the run changes.

    Args:
        path: the file.
        weights: prunable weights by name, as they are before the run; read again at each count.
        total: steps of the run.
    """

    def __init__(self, path: Path, weights: Mapping[str, Tensor], total: int) -> None:
        self._weights, self._total = weights, total
        self._before = {name: magnitude_bins(weight) for name, weight in weights.items()}
        self._log = StepLog(path, total, MOMENTS)

    def after(self, step: int) -> None:
        """Count, if this step is one of those that are kept."""
        if self._log.keeps(step):
            self.count(step)

    def count(self, step: int) -> None:
        """Count the weights as they are after a step; rows from this step on are replaced."""
        kept, removed = (torch.zeros(BINS, dtype=torch.long) for _ in range(2))
        for name, weight in self._weights.items():
            zero = weight.detach() == 0
            kept += _counts(magnitude_bins(weight)[~zero])
            removed += _counts(self._before[name][zero])
        self._log.write(step, [{"step": step, "kept": kept.tolist(), "removed": removed.tolist()}])


def magnitude_bins(weight: Tensor) -> Tensor:
    """Return the bin of each weight, uint8, of the same shape."""
    decades = weight.detach().abs().float().log10()
    bins = (decades - LOWEST) * (BINS / (HIGHEST - LOWEST))
    return bins.clamp(0, BINS - 1).to(torch.uint8)


def _counts(bins: Tensor) -> Tensor:
    return torch.bincount(bins.flatten().long(), minlength=BINS).cpu()
