"""cspbench: pruning of speech recognisers put to the test."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cspbench.report.results import load_results

__version__ = "0.1.0"
__all__ = ["__version__", "load_results"]


def __getattr__(name: str) -> Any:
    """Import `load_results` when it is first asked for: pandas has no place in the import of a trial."""
    if name == "load_results":
        return import_module("cspbench.report.results").load_results
    raise AttributeError(f"module 'cspbench' has no attribute '{name}'")
