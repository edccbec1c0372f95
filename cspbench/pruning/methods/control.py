"""The control: the dense recogniser, trained on by the same recipe as every method."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from cspbench.errors import PruningError
from cspbench.hyper import Hyperparameters
from cspbench.pruning.method import PruningContext, PruningMethod
from cspbench.pruning.registry import register


@register("control")
class Control(PruningMethod):
    """Prunes nothing: the effect of the further training alone, without which that of pruning cannot be told.

    Raises PruningError where a sparsity above 0 is asked for.
    """

    prunes: ClassVar[bool] = False
    summary = "no pruning: the dense recogniser trained on with the same steps, at sparsity 0"
    source = "a control, after Blalock et al. 2020, What is the State of Neural Network Pruning?, arXiv:2003.03033"

    def __init__(self, params: Hyperparameters, context: PruningContext) -> None:
        super().__init__(params, context)
        if context.zeros:
            raise PruningError(
                f"control trains the dense recogniser on and prunes nothing: ask for sparsity 0, not {context.sparsity}"
            )

    def finish(self) -> None:
        """Do nothing: there are no zeros to leave."""

    def masks(self) -> dict[str, Tensor]:
        """All weights are kept."""
        return {name: torch.ones_like(w, dtype=torch.bool) for name, w in self.context.weights.items()}
