"""SNIP: before any training, the weights go to whose absence the loss is least sensitive."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from cspbench.hyper import Search
from cspbench.pruning.bases import MaskedMethod, MaskedParams
from cspbench.pruning.method import Progress, PruningContext
from cspbench.pruning.registry import register


class SnipParams(MaskedParams):
    """Options of SNIP."""

    batches: Annotated[int, Search(1, 32, log=True)] = Field(
        8, ge=1, description="training batches the sensitivity is measured on, at most a quarter of the steps"
    )


@register("snip")
class Snip(MaskedMethod):
    """Drops, in one shot, the weights of smallest connection sensitivity ``|g * w| / sum |g * w|``, then trains.

    ``g * w`` is the derivative of the loss by a gate on the weight, where ``g`` is the gradient over the first
    `batches` training batches together (the paper: one batch of 100 or 128 examples). The prunable matrices do not
    change on those steps; biases and whatever else is not prunable train on.

    The paper prunes a network fresh from its initialisation (``start: fresh`` of the pruning run). Without it, as for
    every method, it is the trained recogniser.
    """

    Params = SnipParams
    params: SnipParams
    summary = "one shot by connection sensitivity |gradient * weight|, measured on the first batches"
    source = "Lee, Ajanthan & Torr 2019, SNIP: Single-shot Network Pruning, arXiv:1810.02340"

    def __init__(self, params: SnipParams, context: PruningContext) -> None:
        super().__init__(params, context)
        self._batches = max(1, min(params.batches, context.steps // 4)) if context.zeros else 0
        self._gradient = {name: torch.zeros_like(w, dtype=torch.float32) for name, w in context.weights.items()}
        self.register_state(gradient="_gradient")

    @torch.no_grad()
    def after_backward(self, progress: Progress) -> None:
        """Gather gradients and hold the weights where they are; later, clear the gradients of dropped weights."""
        if progress.step >= self._batches:
            super().after_backward(progress)
            return
        for name, weight in self.context.weights.items():
            if weight.grad is not None:
                self._gradient[name] += weight.grad.nan_to_num(0.0, 0.0, 0.0)
                weight.grad = None  # an optimiser passes over what has none, weight decay included

    def after_step(self, progress: Progress) -> None:
        """Prune once enough batches were seen, and clear the dropped weights."""
        if progress.step + 1 == self._batches:
            self._prune(self.context.zeros)
        super().after_step(progress)

    @torch.no_grad()
    def _scores(self) -> dict[str, Tensor]:
        sensitivity = {name: (self._gradient[name] * w).abs() for name, w in self.context.weights.items()}
        total = sum(float(s.sum(dtype=torch.float64)) for s in sensitivity.values())
        return {name: s.double() / total if total else s for name, s in sensitivity.items()}
