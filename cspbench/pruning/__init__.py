"""Pruning methods: their protocol, their bases, and the built-in ones (`cspbench.pruning.methods`)."""

import cspbench.pruning.methods  # noqa: F401 - registers what is built in
from cspbench.pruning.bases import MaskedMethod, RampedMethod
from cspbench.pruning.catalogue import MethodInfo, OptionInfo, describe_methods
from cspbench.pruning.method import REWIND_POINTS, Phase, Progress, PruningContext, PruningMethod
from cspbench.pruning.registry import create, register

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
    "create",
    "describe_methods",
    "register",
]
