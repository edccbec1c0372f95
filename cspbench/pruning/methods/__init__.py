"""The built-in methods, one file (or folder) each. Importing this package registers them."""

from cspbench.pruning.methods import (
    admm,
    control,
    csp,
    fisher_magnitude,
    greg,
    l1,
    lottery,
    magnitude,
    movement,
    random,
    rigl,
    set,
    snip,
    sparsegpt,
    wanda,
    xrda,
)

__all__ = [
    "admm",
    "control",
    "csp",
    "fisher_magnitude",
    "greg",
    "l1",
    "lottery",
    "magnitude",
    "movement",
    "random",
    "rigl",
    "set",
    "snip",
    "sparsegpt",
    "wanda",
    "xrda",
]
