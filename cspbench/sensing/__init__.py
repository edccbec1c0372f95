"""Compressed sensing in batched torch: operators and sparse recovery over the rows of a matrix. Usable on its own.

>>> import torch
>>> from cspbench.sensing import htp, keep_per_row, random_operator
>>> operator = random_operator("gaussian", columns=64, ratio=0.5, seed=0)
>>> rows = torch.zeros(3, 64)
>>> rows[:, ::16] = 1.0
>>> found = htp(operator, operator.adjoint(operator.measure(rows)), keep_per_row(4))
>>> bool(torch.allclose(found.solution, rows, atol=1e-4))
True
"""

from cspbench.sensing.constrained import cosamp, htp, iht
from cspbench.sensing.debias import debias, debias_exact
from cspbench.sensing.ensembles import ENSEMBLES, SubsampledDCT, random_operator
from cspbench.sensing.omp import omp
from cspbench.sensing.operators import Dense, Gram, Identity, Operator
from cspbench.sensing.penalised import admm, amp, exact_finish, fista, ista, soft_threshold
from cspbench.sensing.recovery import Recovery
from cspbench.sensing.supports import (
    RowRule,
    SupportRule,
    keep_blocks,
    keep_in_all,
    keep_largest,
    keep_n_of_m,
    keep_per_row,
    project,
)

__all__ = [
    "ENSEMBLES",
    "Dense",
    "Gram",
    "Identity",
    "Operator",
    "Recovery",
    "RowRule",
    "SubsampledDCT",
    "SupportRule",
    "admm",
    "amp",
    "cosamp",
    "debias",
    "debias_exact",
    "exact_finish",
    "fista",
    "htp",
    "iht",
    "ista",
    "keep_blocks",
    "keep_in_all",
    "keep_largest",
    "keep_n_of_m",
    "keep_per_row",
    "omp",
    "project",
    "random_operator",
    "soft_threshold",
]
