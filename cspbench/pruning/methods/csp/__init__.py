"""Compressed-sensing pruning: `method` decides when weights go, `recovery` chooses them."""

from cspbench.pruning.methods.csp.method import CSP, CSPParams

__all__ = ["CSP", "CSPParams"]
