"""Magnitude pruning: the smallest weights go, gradually or at once."""

from __future__ import annotations

from torch import Tensor

from cspbench.pruning.bases import RampedMethod
from cspbench.pruning.registry import register
from cspbench.pruning.scores import magnitudes


@register("magnitude")
class Magnitude(RampedMethod):
    """Drops the weights of smallest absolute value along a ramp while training goes on.

    ``schedule: cubic`` is the paper's gradual pruning, ``one_shot`` cuts once and fine-tunes. A dropped weight stays at
    zero and therefore never returns.
    """

    summary = "smallest weights first, along a cubic ramp or at once"
    source = "Zhu & Gupta 2017, To prune, or not to prune, arXiv:1710.01878"

    def _scores(self) -> dict[str, Tensor]:
        return magnitudes(self.context.weights, self._masks)
