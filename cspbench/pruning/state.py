"""State of a method as flat, named tensors: the form it has in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cspbench.errors import PruningError


def pack(kind: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Flat copy of tensors by weight name, keys ``<kind>.<weight name>``."""
    return {f"{kind}.{name}": tensor.detach().clone() for name, tensor in tensors.items()}


@torch.no_grad()
def unpack(kind: str, state: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Copy what `pack` wrote into existing tensors; raises PruningError where a tensor is absent or misshapen."""
    for name, tensor in into.items():
        saved = state.get(f"{kind}.{name}")
        if saved is None or saved.shape != tensor.shape:
            found = "absent" if saved is None else f"of shape {tuple(saved.shape)}"
            raise PruningError(
                f"checkpoint does not fit: '{kind}.{name}' should have shape {tuple(tensor.shape)} and is {found}; "
                "it belongs to another model or method, remove it to start afresh"
            )
        tensor.copy_(saved)
