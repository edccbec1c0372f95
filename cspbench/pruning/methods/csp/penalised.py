"""Compressed-sensing pruning in its penalised form: l1 norm, compression error and commit rules, taken literally."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cspbench.hyper import Search
from cspbench.pruning.methods.csp.method import CSP, CSPParams
from cspbench.pruning.methods.csp.recovery import Solver
from cspbench.pruning.registry import register


class PenalisedParams(CSPParams):
    """Options of penalised compressed-sensing pruning: those of `csp`, with other defaults and another search space."""

    sensitivity: float = Field(
        0.0, ge=0, le=1, description="ranking of the cut: 0 by magnitude, 1 by the loss expected if a weight goes"
    )
    recovery: Annotated[Solver, Search(choices=("ista", "fista"))] = Field(
        "fista", description="solver of the l1-penalised problem: ista or fista (the others of csp are allowed)"
    )
    iterations: Annotated[int, Search(2, 20, log=True)] = Field(
        10, ge=1, le=1000, description="solver iterations from the weights as they are"
    )
    penalty: Annotated[float, Search(1e-4, 0.1, log=True)] = Field(
        0.01, ge=0, lt=1, description="weight of the l1 norm, as a fraction of the least that leaves nothing"
    )
    patience: Annotated[int, Search(1, 4)] = Field(
        2, ge=1, le=100, description="sensings a weight must stay outside the support before it goes"
    )
    tolerance: Annotated[float, Search(0.01, 1.0, log=True)] = Field(
        0.1, ge=0, description="a weight goes if its error is at most this multiple of the matrix's mean"
    )
    rho: Annotated[float, Search(0.003, 0.3, log=True)] = Field(
        0.05, gt=0, le=1, description="fraction of the residual removed a step; grows to 1 along the ramp"
    )
    shrink: Annotated[float, Search(1e-4, 0.1, log=True)] = Field(
        0.01, ge=0, description="lambda: l1 shrinkage of the weights a step during the ramp, times the learning rate"
    )


@register("csp_penalised")
class CSPPenalised(CSP):
    """Minimises ``loss(W) + rho/2 ||(W - What) Phi^T||^2 + lambda ||W||_1``, What recovered from W at every sensing.

    What minimises ``1/2 ||X Phi^T - W Phi^T||_F^2 + penalty ||X||_1``. W is pulled towards it by a force that grows
    along the ramp, and a weight is committed to zero once it has stayed outside the support of What for `patience`
    sensings and its part of the compression error is small. At the end of the ramp W becomes the debiased What with the
    exact number of zeros. See `cspbench.pruning.methods.csp.method` for the shared machinery.
    """

    Params = PenalisedParams
    summary = "csp in penalised form: l1 and compression error pull the weights, commit rules let them go one by one"
    source = "after Zhen et al. 2021, Sparsification via Compressed Sensing for ASR, arXiv:2102.04932; details ours"
