"""Names of a package that are imported when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` (PEP 562).

    Args:
        package: the package that offers the names, i.e. its ``__name__``.
        homes: name -> the module that defines it.

    Example:
        In a package's ``__init__.py``: ``__getattr__ = lazy(__name__, {"load_results": "cspbench.report.results"})``.
    """

    def find(name: str) -> Any:
        if name in homes:
            return getattr(import_module(homes[name]), name)
        raise AttributeError(f"module '{package}' has no attribute '{name}'")

    return find
