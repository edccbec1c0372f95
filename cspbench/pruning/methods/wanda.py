"""Wanda: weights times activations, nothing trained and nothing repaired."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from cspbench.hyper import Search
from cspbench.pruning.mask import select
from cspbench.pruning.post_training import PostTraining, PostTrainingParams
from cspbench.pruning.registry import register


class WandaParams(PostTrainingParams):
    """Options of Wanda."""

    comparison: Annotated[Literal["row", "matrix"], Search(choices=("row", "matrix"))] = Field(
        "row", description="among which weights a weight must be large: those of its output, or of its matrix"
    )


@register("wanda")
class Wanda(PostTraining):
    """Drops the weights of smallest ``|w_ij| * ||x_j||``, the norm of an input over calibration data.

    As in the paper, weights compete within their output: every row of a matrix keeps the same number, to within one.
    How many zeros a matrix gets is up to `allocation` (the paper: uniform). Kept weights stay as they are.
    """

    Params = WandaParams
    params: WandaParams
    summary = "no training: smallest product of weight and input norm, compared within each output"
    source = "Sun et al. 2023, A Simple and Effective Pruning Approach for Large Language Models, arXiv:2306.11695"

    def _saliency(self, weight: Tensor, moment: Tensor) -> Tensor:
        return weight.abs() * moment.diagonal().clamp_min(0).sqrt()

    def _prune_matrix(self, weight: Tensor, moment: Tensor, zeros: int) -> tuple[Tensor, Tensor]:
        scores = self._saliency(weight, moment)
        if self.params.comparison == "row":
            scores = scores.argsort(stable=True, dim=-1).argsort(-1).float()  # place in the row
        mask = select({"": scores}, zeros, self.params.model_copy(update={"density": {}}))[""]
        return mask, weight * mask
