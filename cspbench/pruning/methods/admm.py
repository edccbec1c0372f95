"""ADMM pruning: the task and the sparsity are two problems, drawn towards one solution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from cspbench.hyper import Search
from cspbench.pruning.bases import MaskedMethod, MaskedParams
from cspbench.pruning.mask import select
from cspbench.pruning.method import Progress, PruningContext
from cspbench.pruning.registry import register
from cspbench.pruning.schedule import Schedule


class ADMMParams(MaskedParams):
    """Options of ADMM pruning."""

    rho: Annotated[float, Search(0.1, 30.0, log=True)] = Field(
        3.0, gt=0, description="penalty on the distance to the sparse solution at first; times the learning rate a step"
    )
    growth: Annotated[float, Search(1.0, 1000.0, log=True)] = Field(
        100.0, ge=1, description="factor by which that penalty grows until `end`, by the same ratio an iteration"
    )
    end: Annotated[float, Search(0.3, 0.8)] = Field(
        0.5,
        gt=0,
        le=1,
        description="fraction of the steps after which the weights are cut; the rest retrains",
    )
    interval: Annotated[int, Search(5, 40, log=True)] = Field(
        10, ge=1, description="training steps in an ADMM iteration, at most (a short training still has 8 iterations)"
    )


@register("admm")
class ADMM(MaskedMethod):
    """Pruning by the alternating direction method of multipliers.

    Minimises the task's loss of W plus an indicator of sparsity of Z, subject to ``W = Z``, with scaled duals U:

        W <- argmin loss(W) + rho/2 ||W - Z + U||^2    (some training steps)
        Z <- the sparse matrix nearest to W + U        (projection onto the exact number of zeros)
        U <- U + W - Z

    until `end`; then all outside the support of Z are cut and the others retrained. The pull towards ``Z - U`` is
    decoupled from the optimiser: a proximal step ``(W + c (Z - U)) / (1 + c)``, ``c = learning_rate * rho``, after each
    of its steps. The penalty grows, so that W is close to Z when it is cut; U is the dual over rho and shrinks as rho
    grows (Boyd et al. 2011, section 3.4.1).
    """

    Params = ADMMParams
    params: ADMMParams
    summary = "weights are drawn to their sparse projection with growing force, then cut and retrained"
    source = "Zhang et al. 2018, A Systematic DNN Weight Pruning Framework using ADMM, arXiv:1804.03294"

    def __init__(self, params: ADMMParams, context: PruningContext) -> None:
        super().__init__(params, context)
        self._cut = max(1, round(params.end * context.steps))
        self._iterations = Schedule(context.steps, "linear", 0.0, params.end, params.interval)
        self._z = {name: w.detach().clone() for name, w in context.weights.items()}
        self._u = {name: torch.zeros_like(w) for name, w in context.weights.items()}
        self._aim = {name: w.detach().clone() for name, w in context.weights.items()}  # Z - U
        self._rho = {"rho": torch.tensor(params.rho)}  # on the CPU: it is read at every step
        self.register_state(z="_z", u="_u", admm="_rho")

    def start(self) -> None:
        """Project the weights for a first time."""
        self._project()
        self._take_aim()

    def after_backward(self, progress: Progress) -> None:
        """Once there are dropped weights, clear their gradients."""
        if progress.step >= self._cut:
            super().after_backward(progress)

    def after_step(self, progress: Progress) -> None:
        """Pull the weights; where an iteration ends, project and update the duals; cut at the end."""
        done = progress.step + 1
        if self.context.zeros and done <= self._cut:
            self._pull(progress.learning_rate * float(self._rho["rho"]))
            if done == self._cut:
                self._prune(self.context.zeros)
            elif self._iterations.due(done):
                self._iterate(self.params.rho * self.params.growth ** self._iterations.progress(done))
        if done >= self._cut:
            self._apply()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a saved run; raises PruningError where it does not fit the weights."""
        super().load_state_dict(state)
        self._take_aim()

    @torch.no_grad()
    def _pull(self, strength: float) -> None:
        for name, weight in self.context.weights.items():
            weight.lerp_(self._aim[name], strength / (1 + strength))

    @torch.no_grad()
    def _iterate(self, rho: float) -> None:
        self._project()
        for name, weight in self.context.weights.items():
            self._u[name].add_(weight - self._z[name]).mul_(float(self._rho["rho"]) / rho)
        self._rho["rho"].fill_(rho)
        self._take_aim()

    def _take_aim(self) -> None:
        for name, aim in self._aim.items():
            torch.sub(self._z[name], self._u[name], out=aim)

    @torch.no_grad()
    def _project(self) -> None:
        masks = select(self._scores(), self.context.zeros, self.params)
        self._z = {name: (w + self._u[name]) * masks[name] for name, w in self.context.weights.items()}

    def _scores(self) -> dict[str, Tensor]:
        # The cut leaves the support of the next Z, which the duals have had a say in.
        return {name: (weight.detach() + self._u[name]).abs() for name, weight in self.context.weights.items()}
