"""Lottery tickets: prune the trained network, rewind what is left to early in training, train again."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator
from torch import Tensor

from cspbench.errors import PruningError
from cspbench.hyper import Added, Hyperparameters, Search
from cspbench.pruning.bases import MaskedMethod
from cspbench.pruning.method import REWIND_POINTS, Phase, PruningContext
from cspbench.pruning.registry import register
from cspbench.pruning.scores import magnitudes
from cspbench.pruning.selection import SelectionParams


class LotteryParams(SelectionParams):
    """Options of iterative magnitude pruning with rewinding."""

    rounds: Annotated[int, Search(1, 5)] = Field(
        3, ge=1, le=50, description="times to prune, rewind and train; ignored where `share` is given"
    )
    share: float | None = Field(
        None, gt=0, lt=1, description="fraction of the remaining weights pruned a round (the paper: 0.2); rounds follow"
    )
    rewind: Annotated[float, Search(choices=REWIND_POINTS)] = Field(
        0.5, description=f"fraction of the dense training to rewind to, one of {', '.join(map(str, REWIND_POINTS))}"
    )
    rewinding: Annotated[Literal["weights", "learning_rate"], Added()] = Field(
        "weights", description="weights go back to where they were; or the learning rate alone does (Renda et al. 2020)"
    )
    give_back: Annotated[bool, Added()] = Field(
        False, description="a round trains the steps that rewinding undoes, in place of round_steps"
    )
    round_steps: Annotated[float, Search(0.5, 2.0)] = Field(
        1.0, gt=0, le=100, description="training of a round, as a multiple of the pruning budget"
    )

    @field_validator("rewind")
    @classmethod
    def _kept(cls, value: float) -> float:
        if value not in REWIND_POINTS:
            known = ", ".join(map(str, REWIND_POINTS))
            raise ValueError(f"the dense weights are kept at {known} of their training, not at {value}")
        return value


@register("lottery")
class Lottery(MaskedMethod):
    """Iterative magnitude pruning with rewinding.

    The dense training is the first round's. A round drops the smallest of the trained weights, puts everything else,
    biases included, back to where the dense training stood after the fraction `rewind`, and trains that. Each round
    drops the same fraction of the remaining weights, the last a smaller one where `share` does not divide the target. A
    round costs ``round_steps`` budgets, so that the method costs several. Each has the learning-rate cycle of a pruning
    run, where the paper goes on with the dense training's from the point rewound to.

    Learning-rate rewinding (Renda, Frankle & Carbin 2020, arXiv:2003.02389) leaves the weights as trained and repeats
    the training from that point on: ``rewinding: learning_rate`` with ``give_back: true``.

    With sparsity 0 there is nothing to prune, and so nothing to rewind for: the trained weights stay as they are.
    """

    Params = LotteryParams
    params: LotteryParams
    summary = "iterative magnitude pruning, survivors rewound to early in the dense training"
    source = "Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis, arXiv:1912.05671"

    def __init__(self, params: LotteryParams, context: PruningContext) -> None:
        super().__init__(params, context)
        self._levels = round_zeros(context.total, context.zeros, params.rounds, params.share)
        rewinds = bool(context.zeros) and self.rewinds_weights(params)
        if rewinds and (context.snapshot is None or context.restore is None):
            raise PruningError(
                "lottery rewinds to weights kept during the dense training, and this run has none: "
                "train the dense model with cspbench, or rewind the learning rate alone (rewinding: learning_rate)"
            )
        if context.zeros and params.give_back and context.dense_steps is None:
            raise PruningError("lottery: give_back needs the steps of the dense training, and they are not known here")

    @classmethod
    def rewinds_weights(cls, params: Hyperparameters) -> bool:
        assert isinstance(params, LotteryParams)
        return params.rewinding == "weights"

    def phases(self) -> list[Phase]:
        """One phase a round."""
        if not self.context.zeros:
            return super().phases()
        steps = self.params.round_steps * self.context.steps
        if self.params.give_back:
            assert self.context.dense_steps is not None
            steps = (1 - self.params.rewind) * self.context.dense_steps
        return [Phase(max(1, round(steps))) for _ in self._levels]

    def begin_phase(self, index: int) -> None:
        """Prune the trained weights, and rewind the others if weights rewind."""
        if not self.context.zeros:
            return
        self._prune(self._levels[index])
        if self.params.rewinding == "weights":
            assert self.context.snapshot is not None
            assert self.context.restore is not None
            self.context.restore(self.context.snapshot(self.params.rewind))
        self._apply()

    def _scores(self) -> dict[str, Tensor]:
        # Rewinding may leave a survivor at exactly zero: only the mask tells it from a weight that is gone.
        return magnitudes(self.context.weights, self._masks)


def round_zeros(total: int, zeros: int, rounds: int, share: float | None) -> list[int]:
    """Zeros after each round; the last entry is `zeros`.

    Args:
        total: number of weights.
        zeros: final number of zeros, below `total`.
        rounds: number of rounds, used where `share` is None; each then prunes the same fraction of what
            is left.
        share: fraction of the remaining weights pruned a round, in (0, 1).
    """
    if not zeros:
        return [0]
    density = 1 - zeros / total
    if share is not None:
        rounds = max(1, math.ceil(math.log(density) / math.log(1 - share) - 1e-9))
    step = math.log(1 - share) if share is not None else math.log(density) / rounds
    return [min(zeros, round(total * (1 - math.exp(step * done)))) for done in range(1, rounds)] + [zeros]
