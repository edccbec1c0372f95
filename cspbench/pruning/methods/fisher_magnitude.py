"""Magnitude weighted by the Fisher information: gradual optimal brain damage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from cspbench.hyper import Search
from cspbench.pruning.bases import RampedMethod, RampParams
from cspbench.pruning.calibration import check_calibration
from cspbench.pruning.fisher import GRADIENT_INTERVAL, importance, update_rows
from cspbench.pruning.method import Progress, PruningContext
from cspbench.pruning.refit import DAMPING
from cspbench.pruning.registry import register


class FisherParams(RampParams):
    """Options of Fisher-weighted magnitude pruning."""

    sensitivity: Annotated[float, Search(0.25, 1.0)] = Field(
        0.5,
        gt=0,
        le=1,
        description="ranking: towards 0 by magnitude, 1 by the loss expected if a weight goes, between a blend of both",
    )
    end: Annotated[float, Search(0.3, 0.8)] = Field(
        0.6, ge=0.3, le=1, description="the ramp is complete after this fraction of the steps"
    )
    interval: Annotated[int, Search(5, 40, log=True)] = Field(
        20, ge=1, description="steps between two updates of the mask, at most (a short ramp still gets 8 stages)"
    )


@register("fisher_magnitude")
class FisherMagnitude(RampedMethod):
    """Drops the weights of smallest ``|w| F^(sensitivity / 2)`` along a ramp, F the diagonal of the Fisher information.

    The ranking is that of `csp` (see `cspbench.pruning.fisher`); what csp adds is the refit of the kept weights, which
    ``refit: true`` adds here too. With ``sensitivity: 1`` it is optimal brain damage along a ramp.

    Raises PruningError where there is no calibration data.
    """

    Params = FisherParams
    params: FisherParams
    summary = "smallest magnitude times the root of the Fisher information first, along a ramp"
    source = "LeCun, Denker & Solla 1990 (OBD), with the factored Fisher of Martens & Grosse 2015, arXiv:1503.05671"

    def __init__(self, params: FisherParams, context: PruningContext) -> None:
        super().__init__(params, context)
        check_calibration(context, "fisher_magnitude")
        self._measured = {"updates": torch.tensor(0)}  # on the CPU
        self._rows = {name: w.new_zeros(w.shape[0], 1) for name, w in context.weights.items()}
        self.register_state(refit="_measured", rows="_rows")

    def observes_gradients(self, progress: Progress) -> bool:
        """Return True for every `GRADIENT_INTERVAL`-th step until the ramp ends."""
        return bool(self.context.zeros) and progress.step < self.schedule.last and not progress.step % GRADIENT_INTERVAL

    def observe_gradients(self, progress: Progress, gradients: Mapping[str, Tensor]) -> None:
        """Update the running mean of the squared gradient of each row."""
        update_rows(self._rows, gradients)

    @torch.no_grad()
    def _prune(self, zeros: int) -> None:
        self._apply()
        self._inputs = super()._moments()
        super()._prune(zeros)
        del self._inputs

    def _moments(self) -> dict[str, Tensor]:
        return self._inputs  # one measurement ranks and refits

    def _scores(self) -> dict[str, Tensor]:
        powers = {}
        for name, moment in self._inputs.items():
            power = moment.diagonal()
            powers[name] = power + DAMPING * power.mean()
        worth = importance(powers, self._rows, self.params.sensitivity)
        sizes = {name: weight.detach().float().abs() for name, weight in self.context.weights.items()}
        return {name: (size * worth[name]).masked_fill(size == 0, -torch.inf) for name, size in sizes.items()}
