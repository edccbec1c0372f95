"""LASSO: all weights shrink towards zero while training goes on, and those that arrive are gone."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softshrink

from cspbench.hyper import Search
from cspbench.pruning.bases import MaskedMethod, MaskedParams
from cspbench.pruning.mask import highest_dropped, select
from cspbench.pruning.method import Progress, PruningContext
from cspbench.pruning.registry import register
from cspbench.pruning.scores import magnitudes
from cspbench.pruning.selection import SelectionParams


class L1Params(MaskedParams):
    """Options of l1 pruning."""

    refit: bool = Field(
        True, description="debias at the cut: fit the kept weights to the layer's response by least squares"
    )
    coupled: bool = Field(
        True, description="shrink in proportion to the learning rate, as a proximal step does; or by the same each step"
    )

    strength: Annotated[float, Search(0.1, 3.0, log=True)] = Field(
        1.0, gt=0, description="whole shrinkage until `end`; with 1 it takes a weight at the cut's threshold to zero"
    )
    end: Annotated[float, Search(0.3, 0.8)] = Field(
        0.5, ge=0.1, le=1, description="the shrinking ends after this fraction of the steps, and what is missing is cut"
    )


@register("l1")
class L1(MaskedMethod):
    """Proximal steps on ``L(W) + lambda ||W||_1``, then a cut to the exact count, then fine-tuning without the penalty.

    After each optimiser step every weight moves towards zero by a threshold and stops there: soft thresholding, the
    proximal operator of the l1 norm, applied as AdamW applies weight decay, because through Adam's normalisation the
    penalty would dominate or vanish. The thresholds are proportional to the learning rate (`coupled`), and add up to
    ``strength * m`` until `end`. ``m`` is the largest magnitude that a cut of the trained weights to the target would
    take, over all matrices with ``allocation: global``, in each one otherwise. So the pull fits sparsity, model, budget
    and learning rate: with ``strength: 1`` weights the cut would take arrive at zero unless training holds on to them.

    Until the cut a weight at zero may come back. As soon as a further step would take more than the target, what is
    left is cut, the survivors, which shrank like the others, are fitted to the response of their layer (`refit`), and
    training goes on.
    """

    Params = L1Params
    params: L1Params
    summary = "LASSO: soft thresholding after every step, then an exact cut and fine-tuning"
    source = (
        "Tibshirani 1996 (LASSO); Parikh & Boyd 2014 (proximal step); in pruning: Han et al. 2015, arXiv:1506.02626"
    )

    def __init__(self, params: L1Params, context: PruningContext) -> None:
        super().__init__(params, context)
        self._steps = max(1, round(params.end * context.steps))
        # On the CPU: they are read at every step.
        self._threshold = {name: torch.zeros(()) for name in context.weights}
        self._stage = {"cut": torch.tensor(context.zeros == 0), "due": torch.tensor(False)}
        self.register_state(threshold="_threshold", l1="_stage")

    def start(self) -> None:
        """Measure how strong the pull must be."""
        if not self.context.zeros:
            return
        sizes = self._scores()
        plain = SelectionParams(allocation=self.params.allocation, density=self.params.density)
        highest = highest_dropped(sizes, select(sizes, self.context.zeros, plain), self.params.allocation)
        for name, level in highest.items():
            self._threshold[name].copy_(self.params.strength * level.clamp_min(0) / self._steps)

    def after_backward(self, progress: Progress) -> None:
        """Cut if it is time, before the optimiser moves; clear the gradients of dropped weights."""
        if not self._stage["cut"] and (self._stage["due"] or progress.step >= self._steps):
            self._prune(self.context.zeros)
        if self._stage["cut"]:
            super().after_backward(progress)

    @torch.no_grad()
    def after_step(self, progress: Progress) -> None:
        """Shrink; after the cut, clear the dropped weights."""
        if self._stage["cut"]:
            super().after_step(progress)
            return
        weights = self.context.weights
        relative = self._relative_rate(progress.step)
        shrunk = {name: softshrink(w, float(self._threshold[name]) * relative) for name, w in weights.items()}
        left = torch.stack([values.count_nonzero() for values in shrunk.values()]).sum()
        if self.context.total - int(left) > self.context.zeros:
            self._stage["due"].fill_(True)
            return
        for name, weight in weights.items():
            weight.copy_(shrunk[name])

    def _relative_rate(self, step: int) -> float:
        """Threshold of a step over the mean of all steps until `end`."""
        if not self.params.coupled:
            return 1.0
        rate = self.context.relative_rate
        return rate(step) * self._steps / sum(rate(other) for other in range(self._steps))

    def masks(self) -> dict[str, Tensor]:
        """Until the cut, where weights are not zero; then the masks."""
        if self._stage["cut"]:
            return super().masks()
        return {name: weight.detach() != 0 for name, weight in self.context.weights.items()}

    def _scores(self) -> dict[str, Tensor]:
        return magnitudes(self.context.weights)

    def _prune(self, zeros: int) -> None:
        super()._prune(zeros)
        self._nudge_off_zero()  # a pattern may keep weights that have arrived at zero
        self._stage["cut"].fill_(True)
