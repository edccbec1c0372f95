"""Compressed sensing in batched torch: operators and sparse recovery over the rows of a matrix. Usable on its own."""

from cspbench.sensing.debias import debias
from cspbench.sensing.operators import ENSEMBLES, Dense, Gram, Identity, Operator, random_operator
from cspbench.sensing.recovery import Recovery, fista, htp, iht, ista, keep_per_row

__all__ = [
    "ENSEMBLES",
    "Dense",
    "Gram",
    "Identity",
    "Operator",
    "Recovery",
    "debias",
    "fista",
    "htp",
    "iht",
    "ista",
    "keep_per_row",
    "random_operator",
]
