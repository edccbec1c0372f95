"""Weights that a model had earlier in its training, for methods that rewind to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cspbench.errors import PruningError
from cspbench.pruning.method import REWIND_POINTS

Earlier = Callable[[float], Mapping[str, Tensor]] | Path | str
"""State dict at a fraction of the training, or the folder that holds one for each fraction, such as ``0.5.pt``."""


def snapshot(model: nn.Module, earlier: Earlier) -> Callable[[float], dict[str, Tensor]]:
    """Return a function for `PruningContext.snapshot`.

    Args:
        model: not wrapped; weights saved from a wrapped one fit it as well.
        earlier: a function of the fraction, or a folder with ``<fraction>.safetensors`` or ``<fraction>.pt``, each a
            state dict; fractions are those of `REWIND_POINTS`.
    """

    def at(fraction: float) -> dict[str, Tensor]:
        state = earlier(fraction) if callable(earlier) else _read(Path(earlier), fraction)
        return _named(model, state)

    return at


def restore(model: nn.Module) -> Callable[[Mapping[str, Tensor]], None]:
    """Return a function that overwrites parameters and buffers of a model, for `PruningContext.restore`."""

    @torch.no_grad()
    def overwrite(state: Mapping[str, Tensor]) -> None:
        own = model.state_dict()
        for name, value in state.items():
            own[name].copy_(value)

    return overwrite


def _read(folder: Path, fraction: float) -> Mapping[str, Tensor]:
    for path in (folder / f"{fraction:g}.safetensors", folder / f"{fraction:g}.pt"):
        if path.is_file():
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True) if path.suffix == ".pt" else None
            return load_file(path) if loaded is None else loaded
    points = ", ".join(f"{point:g}" for point in REWIND_POINTS)
    raise PruningError(
        f"{folder} has no weights at {fraction:g} of the training: save a state dict there as {fraction:g}.pt or "
        f"{fraction:g}.safetensors (methods rewind to {points})"
    )


def _named(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights saved from a wrapped model by the names of the model itself, of which none may be missing."""
    own = {name: x for name, x in model.state_dict().items() if isinstance(x, Tensor)}
    found = {}
    for key, value in state.items():
        name = key
        while name not in own and name.startswith(("module.", "_orig_mod.")):
            name = name.partition(".")[2]
        if name not in own or not isinstance(value, Tensor) or own[name].shape != value.shape:
            raise PruningError(f"the earlier weights are not those of this model: it has no '{key}' of that shape")
        found[name] = value
    if missing := own.keys() - found.keys():
        raise PruningError(f"the earlier weights are not those of this model: '{min(missing)}' is missing")
    return found
