"""Pruning methods by name. Importing this package registers the built-in ones."""

from cspbench.pruning import magnitude
from cspbench.pruning.method import (
    REWIND_POINTS,
    Phase,
    Progress,
    PruningContext,
    PruningMethod,
    methods,
    register,
)

__all__ = [
    "REWIND_POINTS",
    "Phase",
    "Progress",
    "PruningContext",
    "PruningMethod",
    "magnitude",
    "methods",
    "register",
]
