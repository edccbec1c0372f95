"""Bases of the methods that prune by a mask; such methods differ in the score alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from cspbench.hyper import Hyperparameters, Search
from cspbench.pruning.calibration import check_calibration, second_moments
from cspbench.pruning.mask import count_zeros, select
from cspbench.pruning.method import Progress, PruningContext, PruningMethod
from cspbench.pruning.refit import UTTERANCES, RefitParams, refit
from cspbench.pruning.schedule import Schedule, Shape
from cspbench.pruning.selection import SelectionParams, check_selection


class MaskedParams(SelectionParams, RefitParams):
    """Options of the methods that keep a mask."""


class ScheduleParams(SelectionParams):
    """Options of every ramp."""

    schedule: Annotated[Shape, Search(choices=("cubic", "linear"))] = Field(
        "cubic", description="course of the ramp; one_shot prunes everything where the ramp begins"
    )
    begin: Annotated[float, Search(0.0, 0.2)] = Field(
        0.0, ge=0, le=0.3, description="the ramp begins after this fraction of the steps"
    )
    end: Annotated[float, Search(0.3, 0.8)] = Field(
        0.5, ge=0.3, le=1, description="the ramp is complete after this fraction of the steps"
    )
    interval: Annotated[int, Search(1, 40, log=True)] = Field(
        10, ge=1, description="steps between two updates of the mask, at most (a short ramp still gets 8 stages)"
    )


class RampParams(ScheduleParams, RefitParams):
    """Options of the methods that prune along a ramp."""


class MaskedMethod(PruningMethod):
    """Keeps a bool mask for each matrix, and the weights outside it at zero.

    Gradients outside the mask are cleared, so that clipped or momentum-carrying optimisers learn from kept weights
    alone, and weights are cleared after each step, because momentum from before a weight was dropped still moves it.
    Between two calls of the protocol the zeros of the weights are those of the masks. Methods whose hyperparameters
    include `refit` fit the kept weights after each mask update.
    """

    Params: ClassVar[type[Hyperparameters]] = MaskedParams
    params: SelectionParams

    def __init__(self, params: SelectionParams, context: PruningContext) -> None:
        super().__init__(params, context)
        check_selection({name: tuple(w.shape) for name, w in context.weights.items()}, context.zeros, params)
        self._masks = {name: torch.ones_like(w, dtype=torch.bool) for name, w in context.weights.items()}
        self._numbers: dict[str, tuple[Tensor, int, Tensor]] = {}
        self.register_state(mask="_masks")
        self._refits = isinstance(params, RefitParams) and params.refit
        if self._refits:
            check_calibration(context, "refit", "set refit: false")
            self._measured = {"updates": torch.tensor(0)}  # on the CPU
            self.register_state(refit="_measured")

    @torch.no_grad()
    def after_backward(self, progress: Progress) -> None:
        """Clear the gradients of dropped weights."""
        found = [(w.grad, self._factor(name)) for name, w in self.context.weights.items() if w.grad is not None]
        if found:
            torch._foreach_mul_([grad for grad, _ in found], [factor for _, factor in found])

    def after_step(self, progress: Progress) -> None:
        """Clear the dropped weights."""
        self._apply()

    def finish(self) -> None:
        """Leave exactly `context.zeros` zeros."""
        if count_zeros(self._masks) != self.context.zeros:
            self._prune(self.context.zeros)
        self._apply()
        self._nudge_off_zero()

    def masks(self) -> dict[str, Tensor]:
        """Current masks by weight name: bool, True where a weight is kept, shape (out, in)."""
        return dict(self._masks)

    def _scores(self) -> dict[str, Tensor]:
        """Importance of every weight, by name; the smallest go first."""
        raise NotImplementedError

    def _prune(self, zeros: int) -> None:
        """Recompute the masks so that they drop `zeros` weights, and refit the others if that is asked for."""
        before = self._masks
        self._masks = select(self._scores(), zeros, self.params)
        if self._refits:
            self._refit(before)

    @torch.no_grad()
    def _refit(self, before: Mapping[str, Tensor]) -> None:
        """Fit the weights that the masks now keep to the responses that their layers had under the masks `before`.

        The other weights stay as they are, for the caller to clear.
        """
        weights = self.context.weights
        now = {name: weight.clone() for name, weight in weights.items()}
        for name, weight in weights.items():
            weight.mul_(before[name])
        for name, moment in self._moments().items():
            values = refit(weights[name].float(), moment, self._masks[name])
            weights[name].copy_(values.where(self._masks[name], now[name]))

    def _moments(self) -> dict[str, Tensor]:
        """Second moments of the inputs over the next utterances of the calibration data."""
        done = int(self._measured["updates"])
        self._measured["updates"].add_(1)
        grams = self.context.grams
        assert grams is not None
        return second_moments(self.context.weights, lambda: grams(UTTERANCES, done * UTTERANCES))

    @torch.no_grad()
    def _apply(self) -> None:
        weights = self.context.weights
        if weights:
            torch._foreach_mul_(list(weights.values()), [self._factor(name) for name in weights])

    def _factor(self, name: str) -> Tensor:
        """A mask as ones and zeros of its weight's type: a product with bools takes five times as long."""
        mask = self._masks[name]
        known = self._numbers.get(name)
        if known is None or known[0] is not mask or known[1] != mask._version:
            known = self._numbers[name] = (mask, mask._version, mask.to(self.context.weights[name].dtype))
        return known[2]

    @torch.no_grad()
    def _nudge_off_zero(self) -> None:
        """Lift kept weights off exact zero, by as little as rounding does, so that the zeros are those of the masks.

        A weight that grew at zero stays there as long as it has no gradient: its input is never there, or all paths
        behind it are pruned.
        """
        for name, weight in self.context.weights.items():
            idle = self._masks[name] & (weight == 0)
            if idle.any():
                scale = float(weight.abs().max()) or 1.0
                weight.masked_fill_(idle, torch.finfo(weight.dtype).eps * scale)


class RampedMethod(MaskedMethod):
    """A masked method whose masks shrink along a schedule."""

    Params: ClassVar[type[Hyperparameters]] = RampParams
    params: ScheduleParams

    def __init__(self, params: ScheduleParams, context: PruningContext) -> None:
        super().__init__(params, context)
        self.schedule = Schedule(context.steps, params.schedule, params.begin, params.end, params.interval)

    def start(self) -> None:
        """Prune what is due before the first step."""
        self._follow_schedule(done=0)
        self._apply()

    def after_step(self, progress: Progress) -> None:
        """Prune what has become due, and clear the dropped weights."""
        self._follow_schedule(done=progress.step + 1)
        self._apply()

    def _follow_schedule(self, done: int) -> None:
        if self.schedule.due(done):
            zeros = round(self.schedule.fraction(done) * self.context.zeros)
            if zeros > 0:
                self._prune(zeros)
