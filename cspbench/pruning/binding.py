"""What a method is told of a model that is not ours, and a way back from what it does as it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from cspbench.pruning.earlier import Earlier, restore, snapshot
from cspbench.pruning.inputs import Calibration, input_moments
from cspbench.pruning.matrices import Matrices, process_group, unwrapped
from cspbench.pruning.method import PruningContext


def context_for(
    model: nn.Module,
    prunable: Sequence[str] | None,
    sparsity: float,
    steps: int,
    calibration: Calibration | None,
    earlier: Earlier | None,
    *,
    learning_rate: Callable[[int], float] | None = None,
    seed: int = 0,
) -> tuple[Matrices, PruningContext]:
    """Find the matrices of a model, and what a method may know of them; for the arguments see `Pruner`."""
    inner = unwrapped(model)
    matrices = Matrices(inner, prunable)
    measured = None
    if calibration is not None:
        measured = input_moments(inner, matrices.parameters, calibration, seed, process_group(model))
    context = PruningContext(
        weights=matrices.matrices,
        sparsity=sparsity,
        steps=steps,
        seed=seed,
        grams=measured,
        learning_rate=learning_rate,
        snapshot=None if earlier is None else snapshot(inner, earlier),
        restore=restore(inner),
    )
    return matrices, context


class Undo:
    """Weights as they were before a method started, for a model that was loaded before the pruner was."""

    def __init__(self, model: nn.Module) -> None:
        state = model.state_dict(keep_vars=True)
        self._tensors = {name: x for name, x in state.items() if isinstance(x, Tensor)}
        self._before = {name: (x.detach().clone(), x._version) for name, x in self._tensors.items()}
        self._versions: dict[str, int] = {}

    def changed(self) -> None:
        """Keep only what has been changed since."""
        self._versions = {n: x._version for n, x in self._tensors.items() if x._version != self._before[n][1]}
        self._before = {name: self._before[name] for name in self._versions}

    @torch.no_grad()
    def restore(self) -> None:
        """Put back what nobody has changed after that."""
        for name, version in self._versions.items():
            if self._tensors[name]._version == version:
                self._tensors[name].copy_(self._before[name][0])
        self.forget()

    def forget(self) -> None:
        """Free the memory."""
        self._before, self._versions = {}, {}
