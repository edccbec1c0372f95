"""Sparse models at run time: packed files, the streaming recogniser, packed layers in any model, measured latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspbench.lazy import lazy

if TYPE_CHECKING:
    from cspbench.runtime.pack_layers import load_packed, packed, packed_layers, set_threads
    from cspbench.runtime.recogniser import Recogniser

__all__ = ["Recogniser", "load_packed", "packed", "packed_layers", "set_threads"]

# Imported when first asked for: not everything beside the recogniser needs what the recogniser needs.
__getattr__ = lazy(
    __name__,
    {"Recogniser": "cspbench.runtime.recogniser"}
    | dict.fromkeys(("load_packed", "packed", "packed_layers", "set_threads"), "cspbench.runtime.pack_layers"),
)
