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

DEALS = 200
"""Times that values are dealt; where these yield too few different settings, the file is refused."""

LEARNING_RATE = "learning_rate factor"
"""Names the learning rate among the axes of a method; no hyperparameter has a blank in its name."""


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
    """Different settings of a method, `tuning.trials` of them: its default, then drawn ones.

    The values of an axis are dealt evenly over the settings (a Latin hypercube), and in the same order to every method:
    all try the same learning rates and the same values of the common axes, so that no method is lucky in its draws.
    They depend on the seed and the axes alone, so that no result can lead to others being drawn.

    Args:
        entry: a tuned method.
        tuning: number, seed and common axes of the settings.

    Raises:
        ConfigError: the axes do not hold as many.
    """
    space = method_space(axes_entry(entry, tuning))
    axes = {**space.axes, LEARNING_RATE: Choice(tuning.learning_rate)}
    found = [default_setting(entry)]
    for deal in range(DEALS):
        hands = {
            name: _dealt(axis, tuning.trials - 1, [tuning.seed, deal, *name.encode()]) for name, axis in axes.items()
        }
        for values in zip(*hands.values(), strict=True):
            drawn = dict(zip(hands, values, strict=True))
            rate = drawn.pop(LEARNING_RATE)
            try:
                setting = MethodSetting(space.spec(drawn), rate)
            except ValidationError:
                continue  # values that do not fit together
            if setting not in found and len(found) < tuning.trials:
                found.append(setting)
        if len(found) == tuning.trials:
            return tuple(found)
    raise ConfigError(
        f"methods: '{entry.key}' has {len(found)} different settings to try and tuning.trials asks for "
        f"{tuning.trials}: every tuned method gets as many; add values to its tune"
    )


def _dealt(axis: Axis, count: int, seed: list[int]) -> list[Any]:
    """`count` values of an axis in random order: each listed value as often as any other, or one of each stratum.

    Numbers of a range are rounded to four digits, which people can read and type.
    """
    rng = np.random.default_rng(seed)
    if isinstance(axis, Choice):
        rounds = -(-count // len(axis.values))
        dealt = [axis.values[index] for _ in range(rounds) for index in rng.permutation(len(axis.values))]
        return [dealt[index] for index in rng.permutation(count)]
    places = (rng.permutation(count) + rng.uniform(size=count)) / max(count, 1)
    low, high = (math.log(axis.low), math.log(axis.high)) if axis.log else (axis.low, axis.high)
    values = [low + place * (high - low) for place in places]
    plain = [min(max(float(f"{math.exp(v) if axis.log else v:.4g}"), axis.low), axis.high) for v in values]
    return [round(value) if axis.integer else value for value in plain]
