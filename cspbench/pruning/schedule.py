"""Pruning schedules: fraction of the target sparsity due after each optimiser step, a function of the step alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cspbench.errors import PruningError

Shape = Literal["cubic", "linear", "one_shot"]

MIN_STAGES = 8
"""A ramp is cut into at least this many stages (or one a step), however long the interval asked for: a few
large cuts would be one-shot pruning under another name."""

_SHAPES: dict[str, Callable[[float], float]] = {
    "cubic": lambda t: 1 - (1 - t) ** 3,  # Zhu & Gupta 2017, eq. 1, from initial sparsity 0
    "linear": lambda t: t,
    "one_shot": lambda t: 1.0,
}


@dataclass(frozen=True)
class Schedule:
    """Ramp from no zeros to all the zeros of the target.

    Attributes:
        total: optimiser steps of the whole budget.
        shape: course of the ramp; `one_shot` prunes everything at `begin`.
        begin: fraction of the budget after which the ramp begins, in [0, 1].
        end: fraction of the budget after which it is complete, in [begin, 1].
        interval: optimiser steps between two updates of the mask, at most.
    """

    total: int
    shape: Shape = "cubic"
    begin: float = 0.0
    end: float = 0.5
    interval: int = 10

    def __post_init__(self) -> None:
        if not 0 <= self.begin <= self.end <= 1:
            raise PruningError(f"a ramp needs 0 <= begin <= end <= 1, got begin {self.begin} and end {self.end}")
        if self.interval < 1:
            raise PruningError(f"steps between two mask updates must be 1 or more, got {self.interval}")

    @property
    def first(self) -> int:
        """Steps done when the ramp begins."""
        return round(self.begin * self.total)

    @property
    def last(self) -> int:
        """Steps done when the ramp is complete."""
        return self.first if self.shape == "one_shot" else round(self.end * self.total)

    def progress(self, done: int) -> float:
        """Place in the ramp after `done` steps, in [0, 1]."""
        if done >= self.last:
            return 1.0
        return max(0.0, (done - self.first) / (self.last - self.first))

    def fraction(self, done: int) -> float:
        """Fraction of the final zeros due after `done` steps, in [0, 1]."""
        return _SHAPES[self.shape](self.progress(done)) if done >= self.first else 0.0

    def due(self, done: int) -> bool:
        """Return True if the mask is updated after `done` steps."""
        if not self.first <= done <= self.last:
            return False
        every = max(1, min(self.interval, (self.last - self.first) // MIN_STAGES))
        return done == self.last or (done - self.first) % every == 0
