"""Compressed-sensing pruning: `method` decides when weights go, `recovery` chooses them."""

from cspbench.pruning.methods.csp.method import CSP, CSPParams
from cspbench.pruning.methods.csp.penalised import CSPPenalised, PenalisedParams

__all__ = ["CSP", "CSPParams", "CSPPenalised", "PenalisedParams"]
