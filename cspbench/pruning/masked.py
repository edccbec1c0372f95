"""The former place of `cspbench.pruning.bases`, kept for methods published outside this repository."""

from cspbench.pruning.bases import MaskedMethod, RampedMethod, RampParams

__all__ = ["MaskedMethod", "RampParams", "RampedMethod"]
