"""Layer-wise least squares: after a mask update the kept weights restore the response of their layer."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from cspbench.hyper import Added, Hyperparameters
from cspbench.sensing import Gram, debias

UTTERANCES = 64
"""Calibration utterances on which an update measures the inputs, each time the next ones."""

DAMPING = 0.02
"""Added to the diagonal of the second moment, as a fraction of its mean."""

STEPS = 12
"""Conjugate gradient steps."""


class RefitParams(Hyperparameters):
    """Option of the methods that can refit the kept weights."""

    refit: Annotated[bool, Added()] = Field(
        False, description="after each mask update fit the kept weights to the layer's response by least squares"
    )


def refit(weight: Tensor, moment: Tensor, mask: Tensor) -> Tensor:
    """Values on `mask` whose response to the inputs is closest to that of `weight`.

    Minimises ``E ||W x - V x||^2`` over V that vanish outside the mask, with a pull towards W from the damping. These
    are the debiasing steps of `cspbench.pruning.methods.csp` at its defaults.

    Args:
        weight: float, shape (out, in).
        moment: second moment of the inputs ``E[x x^T]``, shape (in, in).
        mask: bool, shape (out, in).

    Returns:
        Shape (out, in), zero outside the mask.
    """
    operator = Gram(moment, DAMPING)
    return debias(operator, operator.normal(weight), mask, weight * mask, STEPS)
