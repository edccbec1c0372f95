"""RigL: sparse training whose connections grow where the gradient is largest."""

from __future__ import annotations

from torch import Tensor

from cspbench.pruning.evolving import EvolvingMethod
from cspbench.pruning.registry import register


@register("rigl")
class RigL(EvolvingMethod):
    """Grows the connections whose dense gradient is largest at the step of the update.

    The paper trains from scratch (``start: fresh`` of the pruning run); its best first masks are random with
    ``allocation: erk``.
    """

    summary = "sparse from the first step; the smallest weights make room for those of largest gradient"
    source = "Evci et al. 2020, Rigging the Lottery: Making All Tickets Winners, arXiv:1911.11134"

    def _growth(self, step: int) -> dict[str, Tensor]:
        weights = self.context.weights
        gradients = {name: w.grad for name, w in weights.items() if w.grad is not None}
        return {name: g.abs().nan_to_num_(0.0, 0.0, 0.0) for name, g in gradients.items()}
