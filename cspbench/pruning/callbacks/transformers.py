"""Pruning in a `transformers.Trainer`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from cspbench.errors import PruningError
from cspbench.pruning.pruner import Pruner
from cspbench.store import write_atomic

FILE = "pruner.pt"
"""State of the method, in each checkpoint of the trainer."""


class PruningCallback(TrainerCallback):
    """Prune a model while it is trained; the state is in the trainer's checkpoints.

    The trainer clips gradients before any callback sees them, so that those of dropped weights count towards the norm.
    Set ``max_grad_norm=0`` in its arguments and give `clip` to this callback, which clips after masking.

    Args:
        method: name of a method.
        sparsity: fraction of zeros among the prunable weights.
        clip: largest norm of the gradients; None does not clip.
        options: further arguments of `cspbench.Pruner`; `steps` are those of the trainer.

    Attributes:
        pruner: from the start of the training on.

    Raises:
        PruningError: training in several processes, ``load_best_model_at_end``, or a checkpoint without this callback.

    Example:
        >>> Trainer(model, arguments, callbacks=[PruningCallback("magnitude", 0.9)], ...)
    """

    pruner: Pruner

    def __init__(self, method: str = "csp", sparsity: float = 0.9, clip: float | None = None, **options: Any) -> None:
        self._arguments = {"method": method, "sparsity": sparsity, **options}
        self._clip = clip

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the method, or go on from the checkpoint of the step that the trainer goes on from."""
        if args.world_size > 1:
            raise PruningError("this callback prunes in one process: use cspbench.Pruner in a loop of your own")
        if args.load_best_model_at_end:
            raise PruningError("load_best_model_at_end brings back weights that were not pruned yet: switch it off")
        self._model: nn.Module = kwargs["model"]
        optimizer: Optimizer = kwargs["optimizer"]
        self.pruner = Pruner(self._model, optimizer, steps=state.max_steps, **self._arguments)
        if state.global_step:
            path = _checkpoint(args, state)
            if not path.is_file():
                raise PruningError(f"{path} is missing: the training to go on with was not pruned by this callback")
            self.pruner.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Show the method the gradients, then clip them."""
        self.pruner.after_backward()
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self._model.parameters(), self._clip)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Write the state of the method into the checkpoint."""
        buffer = io.BytesIO()
        torch.save(self.pruner.state_dict(), buffer)
        write_atomic(_checkpoint(args, state), buffer.getvalue())

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave exact zeros."""
        self.pruner.finish()


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / FILE
