"""The settings a comparison tries: as many for every tuned method, drawn before anything is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from cspbench.comparison.config import ComparedMethod, ComparisonConfig, axes_entry
from cspbench.config import Axis, Choice
from cspbench.errors import ConfigError
from cspbench.spec import MethodSpec
from cspbench.sweep.space import method_space

ATTEMPTS = 200
"""Draws for each setting wanted, before there are held to be too few."""


@dataclass(frozen=True)
class TuningCell:
    """A method at a sparsity at which settings are tried, and those it tries: the first is the default."""

    method: str
    sparsity: float
    candidates: tuple[MethodSpec, ...]

    @property
    def key(self) -> tuple[str, float]:
        """Label of the method, and sparsity."""
        return self.method, self.sparsity


def cells(config: ComparisonConfig) -> list[TuningCell]:
    """What is tuned: sparsity by sparsity, every tuned method with the same settings at each.

    Raises:
        ConfigError: a method with fewer settings than are to be tried.
    """
    if config.tuning is None:
        return []
    tuned = [entry for entry in config.methods if entry.tuned]
    drawn = {entry.key: candidates(entry, config.tuning.trials, config.tuning.seed) for entry in tuned}
    return [TuningCell(entry.key, sparsity, drawn[entry.key]) for sparsity in config.tuning.at for entry in tuned]


def default_setting(entry: ComparedMethod) -> MethodSpec:
    """The method with what is fixed, and its defaults for all else."""
    return method_space(axes_entry(entry.model_copy(update={"tune": False}))).spec({})


def candidates(entry: ComparedMethod, count: int, seed: int) -> tuple[MethodSpec, ...]:
    """Different settings of a method: its default, then random ones.

    They depend on the seed, the label and the axes alone, so that no result can lead to others being drawn.

    Args:
        entry: a tuned method.
        count: how many.
        seed: of the draws.

    Raises:
        ConfigError: its axes do not hold as many.
    """
    space = method_space(axes_entry(entry))
    rng = np.random.default_rng([seed, *entry.key.encode()])
    found = [default_setting(entry)]
    for _ in range(ATTEMPTS * count):
        if len(found) == count:
            return tuple(found)
        try:
            setting = space.spec({name: _draw(axis, rng) for name, axis in space.axes.items()})
        except ValidationError:
            continue  # values that do not fit together
        if setting not in found:
            found.append(setting)
    if len(found) < count:
        raise ConfigError(
            f"methods: '{entry.key}' has {len(found)} different settings to try and tuning.trials asks for {count}: "
            "every tuned method gets as many; add values to its tune"
        )
    return tuple(found)


def _draw(axis: Axis, rng: np.random.Generator) -> Any:
    """A random value; numbers are rounded to four digits, which people can read and type."""
    if isinstance(axis, Choice):
        return axis.values[rng.integers(len(axis.values))]
    if axis.log:
        value = math.exp(rng.uniform(math.log(axis.low), math.log(axis.high)))
    else:
        value = rng.uniform(axis.low, axis.high)
    value = min(max(float(f"{value:.4g}"), axis.low), axis.high)
    return round(value) if axis.integer else value
