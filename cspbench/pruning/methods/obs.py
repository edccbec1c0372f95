"""Gradual optimal brain surgeon with a block-diagonal Fisher matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from cspbench.errors import PruningError
from cspbench.hyper import Search
from cspbench.pruning.bases import RampedMethod, ScheduleParams
from cspbench.pruning.mask import select
from cspbench.pruning.method import Progress, PruningContext
from cspbench.pruning.registry import register

GRADIENT_INTERVAL = 2
"""Steps between two observations of the recogniser's own gradient: each costs a second pass through the encoder."""


class OBSParams(ScheduleParams):
    """Options of the gradual optimal brain surgeon."""

    block: Annotated[int, Search(4, 32, log=True)] = Field(
        16, ge=1, le=128, description="neighbouring weights of a row whose Fisher matrix is kept (the paper: 50)"
    )
    damping: Annotated[float, Search(1e-3, 1.0, log=True)] = Field(
        0.05, gt=0, description="added to the diagonal of the Fisher matrix, as a multiple of its mean"
    )
    memory: Annotated[float, Search(0.02, 0.2, log=True)] = Field(
        0.05, gt=0, le=1, description="weight of the latest gradient in the running Fisher matrix"
    )
    end: Annotated[float, Search(0.3, 0.8)] = Field(
        0.6, ge=0.3, le=1, description="the ramp is complete after this fraction of the steps"
    )
    interval: Annotated[int, Search(5, 40, log=True)] = Field(
        20, ge=1, description="steps between two updates of the mask, at most (a short ramp still gets 8 stages)"
    )


@register("obs")
class OBS(RampedMethod):
    """Drops, along a ramp, the weights expected to raise the loss least, and lets their blocks make up for them.

    F is the empirical Fisher matrix of blocks of neighbouring kept weights: a running mean of outer products of
    minibatch gradients. Dropping weight q alone raises the loss by ``w_q^2 / (2 [F^-1]_qq)``, which ranks the weights.
    Those that go move the others of their block, all together, to the minimum of the quadratic model, ``w - F^-1 E
    (E^T F^-1 E)^-1 E^T w``, E holding the columns of the dropped. This is the block-wise update of the papers'
    equations (their code adds up the updates of single weights). The papers draw up to 1,024 fresh gradients at each
    update; here it is the gradients that training computes anyway.

    A step costs `block` multiplications a weight, and `block` numbers a weight are kept.
    """

    Params = OBSParams
    params: OBSParams
    summary = "optimal brain surgeon with block Fisher matrices, along a ramp; the others of a block make up for it"
    source = (
        "Kurtic et al. 2022, The Optimal BERT Surgeon, arXiv:2203.07259; "
        "Singh & Alistarh 2020, WoodFisher, arXiv:2004.14340"
    )

    def __init__(self, params: OBSParams, context: PruningContext) -> None:
        super().__init__(params, context)
        kept = context.weights if context.zeros else {}
        self._fisher = {
            name: w.new_zeros(blocks_of(w, params.block).shape[0], params.block, params.block, dtype=torch.float32)
            for name, w in kept.items()
        }
        self.register_state(fisher="_fisher")

    def observes_gradients(self, progress: Progress) -> bool:
        """Return True for every `GRADIENT_INTERVAL`-th step until the ramp ends."""
        return bool(self.context.zeros) and progress.step < self.schedule.last and not progress.step % GRADIENT_INTERVAL

    @torch.no_grad()
    def observe_gradients(self, progress: Progress, gradients: Mapping[str, Tensor]) -> None:
        """Update the running Fisher matrices."""
        memory = self.params.memory
        for name, gradient in gradients.items():
            # A gradient that overflowed, as loss scaling produces them, teaches nothing.
            g = blocks_of(gradient.float().nan_to_num(0.0, 0.0, 0.0), self.params.block)
            self._fisher[name].baddbmm_(g[:, :, None], g[:, None, :], beta=1 - memory, alpha=memory)

    @torch.no_grad()
    def _prune(self, zeros: int) -> None:
        self._apply()
        weights = self.context.weights
        inverses = self._inverses()
        scores = {}
        for name, weight in weights.items():
            diagonal = from_blocks(inverses[name].diagonal(dim1=1, dim2=2), weight.shape)
            scores[name] = (weight.float().square() / diagonal).masked_fill(~self._masks[name], -torch.inf)
        self._masks = select(scores, zeros, self.params)
        for name, weight in weights.items():
            kept = blocks_of(self._masks[name].float(), self.params.block, value=1.0) > 0
            values = surgery(blocks_of(weight.float(), self.params.block), inverses[name], kept)
            if not bool(values.isfinite().all()):
                raise PruningError("obs: corrected weights are not finite; raise damping")
            weight.copy_(from_blocks(values, weight.shape))

    def _inverses(self) -> dict[str, Tensor]:
        """Inverses of the damped Fisher matrices of the kept weights, by weight name, each (blocks, block, block)."""
        diagonals = [fisher.diagonal(dim1=1, dim2=2) for fisher in self._fisher.values()]
        mean = float(sum(x.sum() for x in diagonals)) / max(1, sum(x.numel() for x in diagonals))
        level = self.params.damping * mean or 1.0  # before the first gradient any level will do
        found = {}
        for name, fisher in self._fisher.items():
            # A weight that is gone makes up for nothing: its row and column leave the matrix.
            kept = blocks_of(self._masks[name].float(), self.params.block)
            damped = fisher * kept[:, :, None] * kept[:, None, :]
            damped.diagonal(dim1=1, dim2=2).add_(level)
            factor, failed = torch.linalg.cholesky_ex(damped)
            if bool(failed.any()):
                raise PruningError("obs: a Fisher matrix is not positive definite; raise damping")
            found[name] = torch.cholesky_inverse(factor)
        return found


def blocks_of(matrix: Tensor, block: int, value: float = 0.0) -> Tensor:
    """Blocks of neighbouring inputs, rows one after the other: (out, in) to (blocks, block), the last padded."""
    flat = matrix.reshape(-1)
    return pad(flat, (0, -flat.numel() % block), value=value).view(-1, block)


def from_blocks(blocks: Tensor, shape: torch.Size) -> Tensor:
    """Inverse of `blocks_of`."""
    return blocks.reshape(-1)[: shape.numel()].view(shape)


def surgery(weights: Tensor, inverses: Tensor, kept: Tensor) -> Tensor:
    """Weights of each block after those not kept were set to zero at the least cost.

    Minimises ``(v - w)^T F (v - w)`` over v that vanish outside `kept`.

    Args:
        weights: w, shape (blocks, block).
        inverses: of F, shape (blocks, block, block).
        kept: bool, shape (blocks, block).

    Returns:
        Shape (blocks, block), zero outside `kept`.
    """
    gone = (~kept).to(weights.dtype)
    # Rows and columns of kept weights become those of the identity, so that all systems have one size.
    system = inverses * gone[:, :, None] * gone[:, None, :]
    system.diagonal(dim1=1, dim2=2).add_(1 - gone)
    multipliers = torch.linalg.solve(system, (weights * gone)[:, :, None])
    return (weights - (inverses @ multipliers)[:, :, 0]) * (1 - gone)
