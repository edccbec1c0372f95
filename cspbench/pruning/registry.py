"""Pruning methods by name: this package's, and those that other packages publish under ``cspbench.methods``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from cspbench.errors import ConfigError
from cspbench.hyper import Hyperparameters, explain
from cspbench.pruning.method import PruningContext, PruningMethod
from cspbench.registry import Registry

methods: Registry[type[PruningMethod]] = Registry("pruning method", "cspbench.methods")
register = methods.register


def pruning_names() -> list[str]:
    """Names of the methods that prune, sorted: all that are registered but the controls."""
    return [name for name in methods.names() if methods.get(name).prunes]


def name_of(method: PruningMethod) -> str:
    """Return the name a method is registered by, or that of its class."""
    kind = type(method)
    return next((name for name in methods.names() if methods.get(name) is kind), kind.__name__)


def create(name: str, params: Mapping[str, Any] | Hyperparameters, context: PruningContext) -> PruningMethod:
    """Return a pruning method, bound to the weights it prunes.

    Args:
        name: of a registered method; `cspbench methods` lists them.
        params: hyperparameters by name; those left out have their defaults.
        context: weights, target sparsity, budget, and what else the method may ask for.

    Raises:
        ConfigError: an unknown method, or hyperparameters that it does not take.
        PruningError: the method cannot reach the target, or needs what the context does not offer.
    """
    chosen = methods.get(name)
    values = params.model_dump() if isinstance(params, Hyperparameters) else params
    try:
        return chosen(chosen.Params.model_validate(values), context)
    except ValidationError as error:
        raise ConfigError(f"method '{name}': {explain(error, chosen.Params)}") from error
