"""Pruning methods: what one is, the pieces they share, and those that are built in (`cspbench.pruning.methods`)."""

import cspbench.pruning.methods  # noqa: F401 - registers what is built in
from cspbench.pruning.bases import MaskedMethod, RampedMethod
from cspbench.pruning.catalogue import MethodInfo, OptionInfo, describe_methods
from cspbench.pruning.method import REWIND_POINTS, Phase, Progress, PruningContext, PruningMethod
from cspbench.pruning.registry import register

__all__ = [
    "REWIND_POINTS",
    "MaskedMethod",
    "MethodInfo",
    "OptionInfo",
    "Phase",
    "Progress",
    "PruningContext",
    "PruningMethod",
    "RampedMethod",
    "describe_methods",
    "register",
]
