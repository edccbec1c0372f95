"""Second moments of the inputs of each matrix, checked before a method relies on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from cspbench.errors import PruningError
from cspbench.pruning.method import PruningContext


def check_calibration(
    context: PruningContext, method: str, instead: str = "take a method that needs none, such as magnitude"
) -> None:
    """Refuse, before any training, a method that measures inputs where there are none to measure."""
    if context.zeros and context.grams is None:
        raise PruningError(
            f"{method} measures the inputs of each matrix, and there is no calibration data here: {instead}"
        )


def second_moments(weights: Mapping[str, Tensor], grams: Callable[[], dict[str, Tensor]] | None) -> dict[str, Tensor]:
    """``E[x x^T]`` of every matrix's inputs with the weights as they are now, float32, on the device of the weight.

    Args:
        weights: by name, each of shape (out, in).
        grams: see `PruningContext.grams`; `check_calibration` has seen to it that there are some.

    Raises:
        PruningError: one is missing, misshapen or not finite.
    """
    assert grams is not None
    found = grams()
    moments = {}
    for name, weight in weights.items():
        moment = found.get(name)
        expected = (weight.shape[1], weight.shape[1])
        if moment is None or moment.shape != expected:
            shape = "missing" if moment is None else f"of shape {tuple(moment.shape)}"
            raise PruningError(
                f"the second moment of the inputs of '{name}' should have shape {expected}, it is {shape}"
            )
        if not moment.isfinite().all():
            raise PruningError(f"the inputs of '{name}' are not finite: the training diverged")
        moments[name] = moment.to(weight.device, torch.float32)
    return moments
