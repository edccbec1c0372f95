"""SET: sparse evolutionary training, with connections that grow at random."""

from __future__ import annotations

from torch import Tensor

from cspbench.pruning.evolving import EvolvingMethod
from cspbench.pruning.registry import register
from cspbench.pruning.scores import random_scores


@register("set")
class SET(EvolvingMethod):
    """Grows connections at random, drawn from seed and step.

    The paper exchanges the same fraction of each layer after every epoch of the whole training: ``annealing: constant``
    and ``end: 1``. Its first masks are Erdős-Rényi random graphs: ``initial: random`` and ``allocation: erk``. It
    trains from scratch: ``start: fresh`` of the pruning run.
    """

    summary = "sparse from the first step; the smallest weights make room for random ones"
    source = "Mocanu et al. 2018, Scalable training of artificial neural networks (SET), arXiv:1707.04780"

    def _growth(self, step: int) -> dict[str, Tensor]:
        return random_scores(self.context.weights, self.context.seed, step)
