"""Base of methods with evolving masks: a sparse network whose connections change while their number stays."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from cspbench.hyper import Search
from cspbench.pruning.bases import MaskedMethod, MaskedParams
from cspbench.pruning.mask import count_zeros, select, whole_blocks
from cspbench.pruning.method import Progress, PruningContext
from cspbench.pruning.schedule import Schedule
from cspbench.pruning.scores import magnitudes, random_scores
from cspbench.pruning.selection import Blocks, SelectionParams, parse_pattern


class EvolutionParams(MaskedParams):
    """Options of SET and RigL."""

    initial: Annotated[Literal["magnitude", "random"], Search(choices=("magnitude", "random"))] = Field(
        "magnitude", description="first mask: the largest of the trained weights, or any, as in the papers"
    )
    fraction: Annotated[float, Search(0.1, 0.5)] = Field(
        0.3, gt=0, lt=1, description="fraction of a matrix's kept weights exchanged by the first update"
    )
    annealing: Annotated[Literal["cosine", "constant"], Search(choices=("cosine", "constant"))] = Field(
        "cosine", description="course of that fraction: falls to zero along a cosine until `end`, or stays"
    )
    end: Annotated[float, Search(0.5, 0.9)] = Field(
        0.75, gt=0, le=1, description="the mask is fixed after this fraction of the steps"
    )
    interval: Annotated[int, Search(5, 100, log=True)] = Field(
        20, ge=1, description="steps between two updates of the mask, at most (a short run still gets 8)"
    )


class EvolvingMethod(MaskedMethod):
    """The count of every matrix is final from the first step on; at each update its smallest weights make room.

    An update drops `fraction` of a matrix's kept weights, those closest to zero, and grows as many. As in
    both papers' code a weight just dropped may be grown again, and then keeps its value; others start at zero, to
    within rounding.

    Updates use the gradients of the step they happen in and come before the optimiser moves, so that a grown weight
    leaves zero in the same step (the papers spend a step on the update instead). The optimiser's moments cannot be
    seen from here; those of a dropped weight get zero gradients and have faded when it is grown. With patterns whole
    blocks come and go, and N:M groups grow only where they have room. A matrix that has no gradient stays as it is.
    """

    Params = EvolutionParams
    params: EvolutionParams

    def __init__(self, params: EvolutionParams, context: PruningContext) -> None:
        super().__init__(params, context)
        self.schedule = Schedule(context.steps, "linear", 0.0, params.end, params.interval)

    def start(self) -> None:
        """Prune to the target at once."""
        self._prune(self.context.zeros)
        self._apply()

    @torch.no_grad()
    def after_backward(self, progress: Progress) -> None:
        """Exchange connections if it is time, and clear the gradients of dropped weights."""
        if self.context.zeros and progress.step and self.schedule.due(progress.step):
            fraction = self.params.fraction * self._annealed(progress.step)
            growth, before = self._growth(progress.step), dict(self._masks)
            for name, weight in self.context.weights.items():
                if weight.grad is not None:
                    self._masks[name] = self._exchange(name, weight.detach(), growth[name], fraction)
            if self._refits:
                self._refit(before)
            # Where the path behind it is pruned, a grown weight has no gradient to leave zero by.
            self._nudge_off_zero()
        super().after_backward(progress)

    def _annealed(self, step: int) -> float:
        place = self.schedule.progress(step)
        if self.params.annealing == "constant":
            return float(place < 1)
        return (1 + math.cos(math.pi * place)) / 2  # Evci et al. 2020, section 3 (2)

    def _exchange(self, name: str, weight: Tensor, growth: Tensor, fraction: float) -> Tensor:
        """New mask of one matrix: the same number of kept weights, `fraction` of them exchanged.

        Args:
            name: of the matrix.
            weight: shape (out, in).
            growth: what grows first, >= 0, of the same shape.
            fraction: part of the kept weights dropped, in [0, 1).
        """
        mask = self._masks[name]
        zeros = count_zeros({name: mask})
        dropped = int(fraction * (mask.numel() - zeros))
        if not dropped:
            return mask
        alone = SelectionParams(pattern=self.params.pattern)
        stays = select({name: weight.abs().masked_fill(~mask, -torch.inf)}, zeros + dropped, alone)[name]
        pattern = parse_pattern(self.params.pattern)
        if isinstance(pattern, Blocks):
            stays = whole_blocks(stays, pattern)
        # Without a gradient there is nothing to choose by: what was there then comes back.
        growth = growth.where(~mask, growth.clamp_min(torch.finfo(growth.dtype).tiny))
        return select({name: growth.masked_fill(stays, torch.inf)}, zeros, alone)[name]

    def _growth(self, step: int) -> dict[str, Tensor]:
        """By name, the order in which weights grow, the largest first; all >= 0."""
        raise NotImplementedError

    def _scores(self) -> dict[str, Tensor]:
        if self.params.initial == "random":
            return random_scores(self.context.weights, self.context.seed)
        return magnitudes(self.context.weights)
