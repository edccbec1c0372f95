"""Settings that a comparison tries: as many for every tuned method, drawn before anything is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import ValidationError

from cspbench.comparison.config import ComparedMethod, ComparisonConfig, Tuning, axes_entry
from cspbench.config import Axis, Choice
from cspbench.errors import ConfigError
from cspbench.spec import MethodSpec
from cspbench.sweep.space import method_space

ATTEMPTS = 200
"""Draws for each setting wanted; where they yield too few different ones, the file is refused."""


@dataclass(frozen=True)
class MethodSetting:
    """A method with all hyperparameters, and the factor of the corpus's learning rate it trains with."""

    method: MethodSpec
    learning_rate: float = 1.0


CellKey = tuple[str, float, float]
"""Label of a method, sparsity and budget."""


@dataclass(frozen=True)
class TuningCell:
    """A method at a sparsity and budget at which settings are tried, and those it tries: the first is the default."""

    method: str
    sparsity: float
    budget: float
    candidates: tuple[MethodSetting, ...]

    @property
    def key(self) -> CellKey:
        """Label of the method, sparsity and budget."""
        return self.method, self.sparsity, self.budget

    @property
    def label(self) -> str:
        """Such as ``csp at 90 %``; the budget is named where it is not 1."""
        return f"{self.method} at {100 * self.sparsity:g} %" + (f", budget {self.budget:g}" if self.budget != 1 else "")


def tuning_cells(config: ComparisonConfig) -> list[TuningCell]:
    """Cells to tune: budget by budget and sparsity by sparsity, every tuned method with the same settings at each.

    Raises:
        ConfigError: a method with fewer settings than are to be tried.
    """
    tuning = config.tuning
    if tuning is None:
        return []
    tuned = [entry for entry in config.methods if entry.tuned]
    drawn = {entry.key: draw_candidates(entry, tuning) for entry in tuned}
    return [
        TuningCell(entry.key, sparsity, budget, drawn[entry.key])
        for budget in tuning.budgets
        for sparsity in tuning.at
        for entry in tuned
    ]


def default_setting(entry: ComparedMethod) -> MethodSetting:
    """The method with what is fixed, its defaults for all else, and the corpus's learning rate."""
    return MethodSetting(method_space(axes_entry(entry.model_copy(update={"tune": False}))).spec({}))


def draw_candidates(entry: ComparedMethod, tuning: Tuning) -> tuple[MethodSetting, ...]:
    """Different settings of a method, `tuning.trials` of them: its default, then random ones.

    They depend on the seed, the label and the axes alone, so that no result can lead to others being drawn.

    Args:
        entry: a tuned method.
        tuning: number, seed and common axes of the settings.

    Raises:
        ConfigError: the axes do not hold as many.
    """
    space = method_space(axes_entry(entry, tuning))
    rates = Choice(tuning.learning_rate)
    rng = np.random.default_rng([tuning.seed, *entry.key.encode()])
    found = [default_setting(entry)]
    for _ in range(ATTEMPTS * tuning.trials):
        if len(found) == tuning.trials:
            return tuple(found)
        try:
            method = space.spec({name: _draw(axis, rng) for name, axis in space.axes.items()})
        except ValidationError:
            continue  # values that do not fit together
        rate = _draw(rates, rng) if len(rates.values) > 1 else rates.values[0]
        setting = MethodSetting(method, rate)
        if setting not in found:
            found.append(setting)
    if len(found) < tuning.trials:
        raise ConfigError(
            f"methods: '{entry.key}' has {len(found)} different settings to try and tuning.trials asks for "
            f"{tuning.trials}: every tuned method gets as many; add values to its tune"
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
