"""Growing regularisation: unimportant weights are decayed harder and harder, and removed once they hardly matter."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from cspbench.hyper import Search
from cspbench.pruning.bases import MaskedMethod, MaskedParams
from cspbench.pruning.mask import select
from cspbench.pruning.method import Progress, PruningContext
from cspbench.pruning.registry import register
from cspbench.pruning.schedule import Schedule
from cspbench.pruning.scores import magnitudes


class GRegParams(MaskedParams):
    """Options of pruning by growing regularisation."""

    variant: Annotated[Literal[1, 2], Search(choices=(1, 2))] = Field(
        1, description="1 chooses by magnitude at the start; 2 after a weak penalty on all weights has separated them"
    )
    ceiling: Annotated[float, Search(30.0, 1000.0, log=True)] = Field(
        300.0, gt=0, description="largest L2 penalty; times the learning rate it is the decay of a step"
    )
    pick_ceiling: float = Field(
        10.0, gt=0, description="variant 2: penalty of all weights at which those to remove are chosen"
    )
    pick: float = Field(
        0.1, gt=0, le=0.2, description="variant 2: fraction of the steps after which that penalty is reached"
    )
    grow: Annotated[float, Search(0.25, 0.6)] = Field(
        0.4, ge=0.2, le=1, description="fraction of the steps after which the penalty is at its ceiling"
    )
    end: Annotated[float, Search(0.5, 0.8)] = Field(
        0.5,
        gt=0,
        le=1,
        description="fraction of the steps after which the weights go (not before the ceiling is reached)",
    )
    interval: Annotated[int, Search(1, 20, log=True)] = Field(
        5, ge=1, description="steps between two increases of the penalty, at most (a short growth still has 8)"
    )


@register("greg")
class GReg(MaskedMethod):
    """Pruning by a growing L2 penalty.

    Variant 1 fixes the weights to remove at the start, by magnitude. Variant 2 first penalises all weights, ever
    harder: those with a small curvature of the loss yield more, and what is smallest at `pick_ceiling` is chosen; the
    others are free from then on. The chosen are decayed ever harder while the network learns to do without them,
    are held at the ceiling until `end`, and are then removed.

    The paper raises the penalty by a fixed amount every K steps, in some 50,000 steps of SGD at a learning rate of
    1e-3. Here the amount follows from `ceiling` and the fraction of the budget that `grow` gives it, so that a short
    training takes the same course. The penalty acts after the optimiser's step, as AdamW's decay does: ``w / (1 +
    learning_rate * penalty)``, the proximal step, which never overshoots zero however large the penalty.
    """

    Params = GRegParams
    params: GRegParams
    summary = "weights chosen by magnitude are decayed ever harder until they can be cut without harm"
    source = "Wang et al. 2021, Neural Pruning via Growing Regularization, arXiv:2012.09243"

    def __init__(self, params: GRegParams, context: PruningContext) -> None:
        super().__init__(params, context)
        self._cut = max(1, round(max(params.grow, params.end) * context.steps))
        picking = params.pick if params.variant == 2 else 0.0
        self._picking = Schedule(context.steps, "linear", 0.0, picking, params.interval)
        self._growing = Schedule(context.steps, "linear", picking, params.grow, params.interval)
        self._chosen = {name: torch.ones_like(w, dtype=torch.bool) for name, w in context.weights.items()}
        self._penalty = {"penalty": torch.tensor(0.0)}  # on the CPU: it is read at every step
        self.register_state(chosen="_chosen", greg="_penalty")

    def start(self) -> None:
        """Variant 1 chooses what will go."""
        if self.params.variant == 1:
            self._choose()

    def after_backward(self, progress: Progress) -> None:
        """Once there are dropped weights, clear their gradients."""
        if progress.step >= self._cut:
            super().after_backward(progress)

    def after_step(self, progress: Progress) -> None:
        """Decay what is chosen; raise the penalty, choose and cut when these are due."""
        done = progress.step + 1
        if self.context.zeros and done <= self._cut:
            self._decay(progress.learning_rate * float(self._penalty["penalty"]))
            self._raise_penalty(done)
            if done == self._cut:
                self._prune(self.context.zeros)
        if done >= self._cut:
            self._apply()

    def _raise_penalty(self, done: int) -> None:
        picking = done <= self._picking.last and done < self._growing.last  # with pick = grow it jumps to the ceiling
        floor = self.params.pick_ceiling if self.params.variant == 2 else 0.0
        if picking and self._picking.due(done):
            self._penalty["penalty"].fill_(floor * self._picking.fraction(done))
        elif self._growing.due(done):
            self._penalty["penalty"].fill_(floor + (self.params.ceiling - floor) * self._growing.fraction(done))
        if self.params.variant == 2 and done == max(1, self._picking.last):
            self._choose()

    @torch.no_grad()
    def _decay(self, strength: float) -> None:
        for name, weight in self.context.weights.items():
            weight.mul_(torch.where(self._chosen[name], 1 / (1 + strength), 1.0))

    def _choose(self) -> None:
        masks = select(self._scores(), self.context.zeros, self.params)
        self._chosen = {name: ~mask for name, mask in masks.items()}

    def _prune(self, zeros: int) -> None:
        before, self._masks = self._masks, {name: ~chosen for name, chosen in self._chosen.items()}
        if self._refits:
            self._refit(before)

    def _scores(self) -> dict[str, Tensor]:
        return magnitudes(self.context.weights)
