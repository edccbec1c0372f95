"""xRDA: compressed sensing's l1 penalty, trained by dual averaging, so that training itself makes exact zeros."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from cspbench.hyper import Search
from cspbench.pruning.bases import RampedMethod, ScheduleParams
from cspbench.pruning.mask import count_zeros, select
from cspbench.pruning.method import Progress, PruningContext
from cspbench.pruning.registry import register

_SQUARES = 0.99
"""Memory of the mean squared gradient, as in the optimiser of the other weights."""

_LEAST = 1e-12
"""A kept weight has at least this size: one that became zero would spoil the count."""


class XRDAParams(ScheduleParams):
    """Options of extended regularised dual averaging."""

    averaging: Annotated[Literal["cosine", "dual", "none"], Search(choices=("cosine", "dual", "none"))] = Field(
        "cosine", description="dual averages over the whole past, none is proximal descent, cosine goes to dual slowly"
    )
    contrast: Annotated[float, Search(10.0, 1000.0, log=True)] = Field(
        500.0, ge=1, description="penalty of the smallest weights over that of the largest; 1 is the plain l1 norm"
    )
    momentum: Annotated[float, Search(0.8, 0.95)] = Field(
        0.9, ge=0, lt=1, description="memory of the mean gradient and of the mean magnitude"
    )
    scaling: Annotated[Literal["adam", "none"], Search(choices=("adam", "none"))] = Field(
        "adam", description="divide the mean gradient by its root mean square as Adam does, or not, as in the paper"
    )
    rate: Annotated[float, Search(0.3, 3.0, log=True)] = Field(
        1.0, gt=0, description="step size as a multiple of the learning rate; without scaling 100 is a first guess"
    )
    end: Annotated[float, Search(0.4, 0.9)] = Field(
        0.7, ge=0.3, le=1, description="the ramp is complete after this fraction of the steps"
    )
    interval: Annotated[int, Search(1, 40, log=True)] = Field(
        10, ge=1, description="steps between two choices of the zeros, at most (a short ramp still gets 8)"
    )


@register("xrda")
class XRDA(RampedMethod):
    """Extended regularised dual averaging with an adaptively weighted l1 norm.

    Of each weight w there is a dual d, which the gradients move, and of which w is the shrunken image:

        a <- momentum a + (1 - momentum) |w|             mean magnitude
        b <- av b + s M / (1 + (M - 1) a / max a)        accumulated penalty; M = `contrast`
        v <- momentum v + (1 - momentum) gradient
        d <- av d + (1 - av) w - s v
        w <- sign(d) max(|d| - lambda b, 0)

    with step size s. ``av = 0`` is proximal gradient descent with momentum, ``av = 1`` dual averaging, in which the
    shrinking of one step is not carried into the next; the authors' `cosine` goes from one to the other while the step
    size falls. Large weights are hardly penalised: the regulariser is close to ``log |w|``.

    The method moves the prunable weights itself and hides their gradients from the optimiser. Two things are ours.
    Lambda has no fixed value but the least that leaves the zeros of the ramp: every `interval` steps these are chosen
    anew, the smallest ``|d| / b`` or what a pattern makes of them, and in between lambda is what keeps them zero. The
    gradient is scaled as Adam's, for plain SGD hardly trains a transducer (`scaling: none` is the paper).

    With sparsity 0 nothing is penalised and the weights are left to the optimiser.
    """

    Params = XRDAParams
    params: XRDAParams
    summary = "adaptively weighted l1 by dual averaging: an optimiser of its own, with exact zeros while it trains"
    source = "Siegel, Chen, Zhang & Xu 2020, Training Sparse Neural Networks using Compressed Sensing, arXiv:2008.09661"

    def __init__(self, params: XRDAParams, context: PruningContext) -> None:
        super().__init__(params, context)
        weights = context.weights if context.zeros else {}
        scaled = weights if params.scaling == "adam" else {}
        self._dual = {name: w.detach().clone() for name, w in weights.items()}
        self._penalty = {name: torch.zeros_like(w) for name, w in weights.items()}
        self._velocity = {name: torch.zeros_like(w) for name, w in weights.items()}
        self._magnitude = {name: torch.zeros_like(w) for name, w in weights.items()}
        self._squares = {name: torch.zeros_like(w) for name, w in scaled.items()}
        self._ranked = {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()}
        state = {"dual": "_dual", "penalty": "_penalty", "velocity": "_velocity", "magnitude": "_magnitude"}
        self.register_state(**state, squares="_squares", ranked="_ranked")
        # Buffers to work in, and the masks as numbers: a step then allocates and converts nothing.
        self._scratch = {name: (torch.empty_like(w), torch.empty_like(w)) for name, w in weights.items()}
        self._kept = {name: torch.ones_like(w) for name, w in weights.items()}
        self._lost = {name: torch.zeros_like(w) for name, w in weights.items()}

    def start(self) -> None:
        """Do nothing: there is no penalty yet."""

    @torch.no_grad()
    def after_backward(self, progress: Progress) -> None:
        """Learn from the gradients, and keep them from the optimiser."""
        if not self.context.zeros:
            return
        for name, weight in self.context.weights.items():
            if weight.grad is None:
                continue
            gradient = weight.grad.nan_to_num_(0.0, 0.0, 0.0)  # of an overflow nothing is learnt
            self._velocity[name].lerp_(gradient, 1 - self.params.momentum)
            if self.params.scaling == "adam":
                self._squares[name].mul_(_SQUARES).addcmul_(gradient, gradient, value=1 - _SQUARES)
            weight.grad = None

    @torch.no_grad()
    def after_step(self, progress: Progress) -> None:
        """Move the duals and take the weights from them."""
        if not self.context.zeros:
            return
        done = progress.step + 1
        average = 1.0 if self.params.averaging == "dual" else 0.0
        if self.params.averaging == "cosine":
            average = (1 - math.cos(math.pi * progress.step / progress.total)) / 2
        for name in self.context.weights:
            self._move(name, progress.learning_rate * self.params.rate, average, done)
        self._follow_schedule(done)
        self._apply()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a saved run; raises PruningError where it does not fit the weights."""
        super().load_state_dict(state)
        self._count_masks()

    def finish(self) -> None:
        """Leave exactly `context.zeros` zeros."""
        if count_zeros(self._masks) != self.context.zeros:
            self._prune(self.context.zeros)
            self._apply()

    def _move(self, name: str, rate: float, average: float, done: int) -> None:
        weight, velocity = self.context.weights[name], self._velocity[name]
        work, _ = self._scratch[name]
        mean = self._magnitude[name].lerp_(torch.abs(weight, out=work), 1 - self.params.momentum)
        one = mean.new_ones(())
        # In fp64 and as tensors: a number would make the host wait for a GPU.
        rise = mean.new_full((), self.params.contrast - 1, dtype=torch.float64)
        slope = rise / mean.max().double().clamp_min(torch.finfo(mean.dtype).tiny)
        torch.addcmul(one, mean, slope.to(mean.dtype), out=work)
        self._penalty[name].mul_(average).addcdiv_(one, work, value=rate * self.params.contrast)
        dual = self._dual[name].lerp_(weight, 1 - average)
        if self.params.scaling == "adam":
            # Both means start at zero; Adam's corrections undo that.
            rate *= math.sqrt(1 - _SQUARES**done) / (1 - self.params.momentum**done)
            dual.addcdiv_(velocity, torch.sqrt(self._squares[name], out=work).add_(1e-8), value=-rate)
        else:
            dual.sub_(velocity, alpha=rate)

    def _follow_schedule(self, done: int) -> None:
        after = done - self.schedule.last
        if after >= 0 and (after % self.params.interval == 0 or done == 1):
            self._prune(self.context.zeros)
        else:
            super()._follow_schedule(done)

    def _prune(self, zeros: int) -> None:
        scores = self._scores()
        plain = self.params.model_copy(update={"pattern": "unstructured"})
        self._ranked = select(scores, zeros, plain)
        self._masks = self._ranked if plain == self.params else select(scores, zeros, self.params)
        self._count_masks()

    def _count_masks(self) -> None:
        for name, kept in self._kept.items():
            kept.copy_(self._masks[name])
            self._lost[name].copy_(~self._ranked[name])

    @torch.no_grad()
    def _scores(self) -> dict[str, Tensor]:
        return {
            name: torch.abs(dual, out=self._scratch[name][0]).div_(self._penalty[name])
            for name, dual in self._dual.items()
        }

    @torch.no_grad()
    def _apply(self) -> None:
        scores = self._scores()
        levels = {name: torch.mul(x, self._lost[name], out=self._scratch[name][1]).max() for name, x in scores.items()}
        if self.params.allocation == "global":
            levels = dict.fromkeys(levels, torch.stack(list(levels.values())).max())
        for name, weight in self.context.weights.items():
            size = scores[name].sub_(levels[name]).mul_(self._penalty[name])  # |d| - lambda b
            torch.mul(size.clamp_min_(_LEAST).copysign_(self._dual[name]), self._kept[name], out=weight)
