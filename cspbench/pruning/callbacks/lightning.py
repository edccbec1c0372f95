"""Pruning in a Lightning trainer."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
from torch.optim import Optimizer

from cspbench.errors import PruningError
from cspbench.pruning.pruner import Pruner


class PruningCallback(pl.Callback):
    """Prune a module while it is fitted; its state is in the checkpoints.

    Gradients are masked before Lightning clips them.

    Args:
        method: name of a method.
        sparsity: fraction of zeros among the prunable weights.
        steps: optimiser steps; by default those that the trainer expects to take.
        options: further arguments of `cspbench.Pruner`.

    Attributes:
        pruner: from the start of the training on.

    Raises:
        PruningError: several optimisers, or a trainer without an end.

    Example:
        >>> Trainer(max_epochs=10, callbacks=[PruningCallback("magnitude", 0.9)])
    """

    pruner: Pruner

    def __init__(self, method: str = "csp", sparsity: float = 0.9, steps: int | None = None, **options: Any) -> None:
        self._arguments = {"method": method, "sparsity": sparsity, **options}
        self._steps = steps
        self._saved: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the method, or go on from a checkpoint."""
        if len(trainer.optimizers) != 1:
            raise PruningError(f"pruning follows one optimiser, and this module has {len(trainer.optimizers)}")
        steps = self._steps or trainer.estimated_stepping_batches
        if not math.isfinite(steps):
            raise PruningError("this trainer has no end: give it max_steps or max_epochs, or steps to the callback")
        model = trainer.strategy.model
        assert model is not None
        self.pruner = Pruner(model, trainer.optimizers[0], steps=int(steps), **self._arguments)
        if self._saved is not None:
            self.pruner.load_state_dict(self._saved)

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Show the method the gradients, before they are clipped."""
        self.pruner.after_backward()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave exact zeros."""
        self.pruner.finish()

    def state_dict(self) -> dict[str, Any]:
        """State of the method for a checkpoint."""
        return self.pruner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state of a checkpoint until the training starts."""
        self._saved = state_dict
