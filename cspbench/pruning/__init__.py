"""Pruning methods by name. Importing this package registers the built-in ones."""

from cspbench.pruning import (
    admm,
    csp,
    evolution,
    greg,
    l1,
    lottery,
    magnitude,
    movement,
    random_pruning,
    snip,
    sparsegpt,
    wanda,
    xrda,
)
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
    "admm",
    "csp",
    "describe_methods",
    "evolution",
    "greg",
    "l1",
    "lottery",
    "magnitude",
    "methods",
    "movement",
    "random_pruning",
    "register",
    "snip",
    "sparsegpt",
    "wanda",
    "xrda",
]
