"""Pruning methods by name. Importing this package registers the built-in ones."""

from cspbench.pruning import admm, csp, greg, lottery, magnitude, movement, sparsegpt, wanda, xrda
from cspbench.pruning.catalogue import MethodInfo, OptionInfo, describe_methods
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
    "MethodInfo",
    "OptionInfo",
    "Phase",
    "Progress",
    "PruningContext",
    "PruningMethod",
    "csp",
    "describe_methods",
    "lottery",
    "magnitude",
    "methods",
    "movement",
    "register",
]
