"""The built-in methods, one file each. Importing this package registers them."""

from cspbench.pruning.methods import (
    admm,
    csp,
    evolution,
    greg,
    l1,
    lottery,
    magnitude,
    movement,
    random,
    snip,
    sparsegpt,
    wanda,
    xrda,
)

__all__ = [
    "admm",
    "csp",
    "evolution",
    "greg",
    "l1",
    "lottery",
    "magnitude",
    "movement",
    "random",
    "snip",
    "sparsegpt",
    "wanda",
    "xrda",
]
