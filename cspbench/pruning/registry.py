"""Pruning methods by name, this package's and those that other packages publish under ``cspbench.methods``."""

from __future__ import annotations

from cspbench.pruning.method import PruningMethod
from cspbench.registry import Registry

methods: Registry[type[PruningMethod]] = Registry("pruning method", "cspbench.methods")
register = methods.register
