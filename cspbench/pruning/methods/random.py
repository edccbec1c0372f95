"""Random pruning: the control that every other method should beat."""

from __future__ import annotations

from torch import Tensor

from cspbench.pruning.bases import RampedMethod
from cspbench.pruning.registry import register
from cspbench.pruning.scores import random_scores


@register("random")
class Random(RampedMethod):
    """Drops weights in a random order, drawn from the seed once and for all, along a ramp while training goes on.

    The allocation still decides how many go from which matrix: with ``global`` and ``uniform`` all matrices end about
    equally sparse, with ``erk`` small ones stay denser.
    """

    summary = "weights in random order: the control that should lose"
    source = "Gale, Elsen & Hooker 2019, The State of Sparsity in Deep Neural Networks, arXiv:1902.09574"

    def _scores(self) -> dict[str, Tensor]:
        return random_scores(self.context.weights, self.context.seed)
