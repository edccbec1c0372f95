"""Pruning of any trained model at once, without any training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from cspbench.errors import PruningError
from cspbench.pruning.binding import Undo, context_for
from cspbench.pruning.inputs import Calibration
from cspbench.pruning.mask import count_zeros
from cspbench.pruning.matrices import unwrapped
from cspbench.pruning.registry import create
from cspbench.pruning.report import PruningReport, report_on


def prune(
    model: nn.Module,
    method: str = "sparsegpt",
    sparsity: float = 0.5,
    prunable: Sequence[str] | None = None,
    calibration: Calibration | None = None,
    *,
    seed: int = 0,
    **hyperparameters: Any,
) -> PruningReport:
    """Prune a trained model in place and at once, without any training.

    Methods that can: ``sparsegpt``, ``wanda``, ``csp`` with ``fine_tune=False``, ``magnitude``, ``random``. For the
    arguments see `Pruner`.

    Returns:
        Zeros, counted.

    Raises:
        ConfigError: an unknown method, or options it does not take.
        PruningError: a method that prunes inside training, or that cannot do what it is asked; the model is as before.

    Example:
        >>> cspbench.prune(model, "sparsegpt", 0.5, calibration=lambda: (model(x) for x in batches))
    """
    matrices, context = context_for(model, prunable, sparsity, 1, calibration, None, seed=seed)
    chosen = create(method, hyperparameters, context)
    undo = Undo(unwrapped(model))
    try:
        chosen.start()
        if count_zeros(chosen.masks()) != context.zeros:
            raise PruningError(
                f"{method} prunes while a model trains: take cspbench.Pruner, or sparsegpt, wanda, magnitude, or csp "
                "with fine_tune=False"
            )
        chosen.finish()
    except PruningError:
        undo.changed()
        undo.restore()
        raise
    return report_on(method, sparsity, matrices.matrices, 0, 0)
