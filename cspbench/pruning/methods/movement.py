"""Movement pruning: weights that training drives towards zero go, however large they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.optim.adam import adam

from cspbench.hyper import Search
from cspbench.pruning.bases import RampedMethod, RampParams
from cspbench.pruning.mask import highest_dropped
from cspbench.pruning.method import Progress, PruningContext
from cspbench.pruning.registry import register

BETAS = (0.9, 0.999)
"""Memories of the scores' Adam, for the mean slope and its square."""

EPSILON = 1e-12
"""Lower bound on the root mean squared slope: gradients of single weights are small."""


class MovementParams(RampParams):
    """Options of movement pruning."""

    variant: Annotated[Literal["hard", "soft"], Search(choices=("hard", "soft"))] = Field(
        "hard", description="hard keeps the top scores at every update; soft keeps the scores above a threshold"
    )
    initial: Annotated[Literal["magnitude", "zero"], Search(choices=("magnitude", "zero"))] = Field(
        "magnitude", description="scores before training: the weights' magnitudes, or zero as in the paper"
    )
    begin: Annotated[float, Search(0.05, 0.25)] = Field(
        0.1, ge=0.01, le=0.3, description="the ramp begins after this fraction of the steps; until then scores gather"
    )
    end: Annotated[float, Search(0.4, 0.8)] = Field(
        0.6, ge=0.3, le=1, description="the ramp is complete after this fraction of the steps"
    )
    optimiser: Annotated[Literal["adam", "sgd"], Search(choices=("adam", "sgd"))] = Field(
        "adam", description="of the scores: adam as in the paper, or plain gradient steps"
    )
    score_rate: Annotated[float, Search(1e-4, 0.1, log=True)] = Field(
        1e-3,
        gt=0,
        description="learning rate of the scores, times that of the weights over its mean (sgd: 1 is a first guess); "
        "without effect on hard scores that began at zero",
    )
    regulariser: float = Field(
        1e-6, ge=0, description="soft only: weight of the sum of sigmoid(score), which draws undecided scores down"
    )


@register("movement")
class Movement(RampedMethod):
    """Scores S descend along ``dL/dW' * W``, where ``W' = W * mask(S)`` is what the forward pass uses.

    The mask's gradient is the paper's straight-through estimator: dropped weights keep a stored value, their scores go
    on learning from the gradient of the masked forward pass, and they return with that value if their score recovers.
    Pruning waits until `begin`, for scores that begin at zero all tie. After the ramp the mask goes on following the
    scores.

    The paper begins at zero, fine-tunes on a new task, and takes tens of thousands of steps. From a recogniser that has
    converged on the same task, and with a few hundred steps, the sign of such a score is mostly noise and pruning by it
    close to random. By default scores therefore begin at the magnitude of their weight and move from there.

    The paper's soft variant drops ``sigmoid(S) < threshold`` for a global threshold, adds the regulariser, and has no
    target. Here the threshold is set anew at every update so that the count lies on the ramp, and held in between, when
    the count floats with the scores; from the end of the ramp on the count is exact. The comparison is made on S:
    sigmoid is monotone, and in 32 bits it would make large scores tie.
    """

    Params = MovementParams
    params: MovementParams
    summary = "weights that move towards zero first; hard (top scores) and soft (threshold) variants"
    source = "Sanh, Wolf & Rush 2020, Movement Pruning: Adaptive Sparsity by Fine-Tuning, arXiv:2005.07683"

    def __init__(self, params: MovementParams, context: PruningContext) -> None:
        super().__init__(params, context)
        # However small the budget, there must have been a gradient before the first cut.
        begin = max(params.begin, 1 / max(1, context.steps))
        self.schedule = replace(self.schedule, begin=begin, end=max(begin, params.end))
        weights = context.weights
        scale = 1.0 if params.initial == "magnitude" else 0.0
        self._s = {name: w.detach().abs().float() * scale for name, w in weights.items()}
        self._stored = {name: torch.zeros_like(w) for name, w in weights.items()}
        moments = weights if params.optimiser == "adam" else {}
        self._mean = {name: torch.zeros_like(w, dtype=torch.float32) for name, w in moments.items()}
        self._square = {name: torch.zeros_like(w, dtype=torch.float32) for name, w in moments.items()}
        self._floats = params.variant == "soft" and params.pattern == "unstructured"
        self._threshold = {name: torch.full((), -torch.inf, device=w.device) for name, w in weights.items()}
        self.register_state(score="_s", stored="_stored", threshold="_threshold")
        self.register_state(score_mean="_mean", score_square="_square")

    def start(self) -> None:
        """Do nothing: there are no scores yet."""

    @torch.no_grad()
    def after_backward(self, progress: Progress) -> None:
        """Bring the stored weights back, and let the scores learn."""
        self._unmask()
        slopes = {}
        for name, weight in self.context.weights.items():
            if weight.grad is None:
                continue
            # Loss scaling skips the optimiser step of an overflowing gradient; the scores skip it too.
            slopes[name] = (weight.grad.float() * weight.float()).nan_to_num_(0.0, 0.0, 0.0)
            if self.params.variant == "soft":
                sigmoid = self._s[name].sigmoid()
                slopes[name] += self.params.regulariser * sigmoid * (1 - sigmoid)
        self._descend(slopes, progress.step)
        super().after_backward(progress)

    def _descend(self, slopes: dict[str, Tensor], step: int) -> None:
        """Take a step of the scores."""
        rate = self.params.score_rate * self.context.relative_rate(step)
        scores = [self._s[name] for name in slopes]
        if self.params.optimiser == "sgd":
            torch._foreach_sub_(scores, list(slopes.values()), alpha=rate)
            return
        adam(
            scores,
            list(slopes.values()),
            [self._mean[name] for name in slopes],
            [self._square[name] for name in slopes],
            [],
            [score.new_full((), float(step)) for score in scores],
            fused=True,  # one pass over memory in place of five
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )

    def finish(self) -> None:
        """Leave exactly `context.zeros` zeros."""
        self._unmask()
        super().finish()

    def _scores(self) -> dict[str, Tensor]:
        return self._s

    def _follow_schedule(self, done: int) -> None:
        after = done - self.schedule.last
        if after > 0 and after % self.params.interval == 0 and self.context.zeros:
            self._prune(self.context.zeros)
        elif self._floats and after < 0 and not self.schedule.due(done):
            self._masks = {name: score > self._threshold[name] for name, score in self._s.items()}
        else:
            super()._follow_schedule(done)

    def _prune(self, zeros: int) -> None:
        super()._prune(zeros)
        self._threshold = highest_dropped(self._s, self._masks, self.params.allocation)

    @torch.no_grad()
    def _unmask(self) -> None:
        if self._stored:
            torch._foreach_add_(list(self.context.weights.values()), list(self._stored.values()))

    @torch.no_grad()
    def _apply(self) -> None:
        for name, weight in self.context.weights.items():
            torch.mul(weight, 1 - self._factor(name), out=self._stored[name])
        super()._apply()
