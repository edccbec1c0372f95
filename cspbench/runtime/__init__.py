"""Sparse models at run time: packed files, the streaming recogniser, packed layers in any model, measured latency."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cspbench.runtime.pack_layers import load_packed, packed, packed_layers, set_threads
    from cspbench.runtime.recogniser import Recogniser

_HOMES = {
    "Recogniser": "recogniser",
    "packed": "pack_layers",
    "load_packed": "pack_layers",
    "packed_layers": "pack_layers",
    "set_threads": "pack_layers",
}
__all__ = ["Recogniser", "load_packed", "packed", "packed_layers", "set_threads"]


def __getattr__(name: str) -> Any:
    # Imported when first asked for: not everything that lies beside the recogniser needs what it needs.
    if name in _HOMES:
        return getattr(import_module(f"cspbench.runtime.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'cspbench.runtime' has no attribute '{name}'")
