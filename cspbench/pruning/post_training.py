"""Base of the methods that prune a trained network in one pass over calibration data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cspbench.hyper import Added, Hyperparameters, Search
from cspbench.pruning.allocation import allocate
from cspbench.pruning.bases import MaskedMethod
from cspbench.pruning.calibration import check_calibration, second_moments
from cspbench.pruning.mask import select
from cspbench.pruning.method import Phase, Progress, PruningContext
from cspbench.pruning.schedule import Schedule
from cspbench.pruning.selection import Allocation, SelectionParams


class PostTrainingParams(SelectionParams):
    """Options of every method that prunes without training."""

    allocation: Annotated[Allocation, Search(choices=("global", "uniform", "erk"))] = Field(
        "uniform", description="zeros of each matrix: by the scores of all; or the same density each; or ERK"
    )
    sequential: bool = Field(
        True, description="measure each matrix's inputs anew after those before it were pruned, or all just once"
    )
    fine_tune: bool = Field(
        False, description="train what is left with the whole budget; otherwise there is no training at all"
    )
    ramp: Annotated[float, Added()] = Field(
        0.0,
        ge=0,
        le=1,
        description="fine_tune: prune along a cubic ramp that is complete after this fraction of the steps, measuring "
        "the inputs once an update; 0 prunes everything before the first step",
    )
    interval: Annotated[int, Added()] = Field(
        20, ge=1, description="ramp: steps between two updates, at most (a short ramp still gets 8 stages)"
    )

    @model_validator(mode="after")
    def _a_ramp_needs_training(self) -> PostTrainingParams:
        if self.ramp and not self.fine_tune:
            raise ValueError("ramp prunes during training: set fine_tune: true, or leave it out")
        return self


class PostTraining(MaskedMethod):
    """Prunes matrix by matrix, in the order of the network, from the second moments of their inputs.

    Without `fine_tune` the method has no phases. With a `ramp` it prunes inside training: each update prunes the
    network as it then is, and a weight that was dropped may return if the correction of others makes it large.

    Raises PruningError where there is no calibration data.
    """

    Params: ClassVar[type[Hyperparameters]] = PostTrainingParams
    params: PostTrainingParams

    def __init__(self, params: PostTrainingParams, context: PruningContext) -> None:
        super().__init__(params, context)
        check_calibration(context, type(self).__name__)
        self._ramp = None
        if params.ramp:
            self._ramp = Schedule(context.steps, "cubic", 0.0, params.ramp, params.interval)
            self._measured = {"updates": torch.tensor(0)}  # on the CPU
            self.register_state(post_training="_measured")

    def phases(self) -> list[Phase]:
        """None, or the whole budget of fine-tuning."""
        return super().phases() if self.params.fine_tune else []

    def start(self) -> None:
        """Prune, unless that happens along a ramp."""
        if self.context.zeros and self._ramp is None:
            self._prune(self.context.zeros)

    def after_step(self, progress: Progress) -> None:
        """Prune what has become due, and clear the dropped weights."""
        if self._ramp is not None and self._ramp.due(progress.step + 1):
            zeros = round(self._ramp.fraction(progress.step + 1) * self.context.zeros)
            if zeros:
                self._prune(zeros)
        super().after_step(progress)

    @torch.no_grad()
    def _prune(self, zeros: int) -> None:
        self._apply()
        weights = self.context.weights
        moments = second_moments(weights, self.context.grams) if self._ramp is None else self._moments()
        counts = self._counts(moments, zeros)
        for index, (name, weight) in enumerate(weights.items()):
            if index and self.params.sequential and self._ramp is None:
                moments = second_moments(self.context.weights, self.context.grams)
            self._masks[name], values = self._prune_matrix(weight.detach().float(), moments[name], counts[name])
            weight.copy_(values)

    def _counts(self, moments: Mapping[str, Tensor], zeros: int) -> dict[str, int]:
        """Zeros of each matrix."""
        weights = self.context.weights
        if self.params.allocation != "global":
            return allocate({name: tuple(w.shape) for name, w in weights.items()}, zeros, self.params)
        scores = {name: self._saliency(w.detach().float(), moments[name]) for name, w in weights.items()}
        return {name: mask.numel() - int(mask.sum()) for name, mask in select(scores, zeros, self.params).items()}

    def _saliency(self, weight: Tensor, moment: Tensor) -> Tensor:
        """Importance of the weights of a matrix, comparable between matrices; shape (out, in)."""
        raise NotImplementedError

    def _prune_matrix(self, weight: Tensor, moment: Tensor, zeros: int) -> tuple[Tensor, Tensor]:
        """Mask with exactly `zeros` False, and values that are zero there; both of shape (out, in)."""
        raise NotImplementedError
