"""Running recognisers: packed models, the streaming recogniser, and measured latency."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cspbench.runtime.recogniser import Recogniser

__all__ = ["Recogniser"]


def __getattr__(name: str) -> Any:
    # Imported when first asked for: not everything that lies beside the recogniser needs what it needs.
    if name in __all__:
        from cspbench.runtime import recogniser

        return getattr(recogniser, name)
    raise AttributeError(f"module 'cspbench.runtime' has no attribute '{name}'")
