"""Constraints of a sweep: bounds on metrics, such as ``latency_ms <= 5`` or ``size_mb <= 2``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cspbench.errors import did_you_mean
from cspbench.result import METRICS

UNITS: dict[str, dict[str, float]] = {
    "fraction": {"%": 0.01},
    "ms": {"us": 1e-3, "µs": 1e-3, "ms": 1, "s": 1e3},
    "bytes": {"bytes": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9},
    "s": {"s": 1, "min": 60, "h": 3600},
    "times": {"x": 1},
}
"""Units that a bound may be written in, by unit of the metric: factor to that."""

UNMEASURED = 1.0
"""Violation by a result that lacks the metric: as bad as twice the bound."""

_FORM = re.compile(r"\s*(\w+)\s*([<>]=?|=+)\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*([a-zµ%]*)\s*", re.I)
_OF_TEST = ("wer", "int8_wer", "wer_change")


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric.

    Attributes:
        metric: a name of `cspbench.result.METRICS`.
        upper: true if the metric must be at most `limit`, false if at least.
        limit: in the unit of the metric.
        text: as a person wrote it.
    """

    metric: str
    upper: bool
    limit: float
    text: str

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read ``METRIC <= NUMBER UNIT`` or ``METRIC >= NUMBER UNIT``.

        The unit is that of the metric unless given; the name may give it too: ``size_mb``, ``latency_us``.

        Raises:
            ValueError: another form, an unknown metric or unit, or a metric of the test set.

        Example:
            >>> Constraint.parse("size_mb <= 2").limit
            2000000.0
            >>> Constraint.parse("latency_ms <= 800 us").limit
            0.8
        """
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(f"'{text}' is no constraint: write such as latency_ms <= 5 or size_mb <= 2")
        name, sign, number, unit = found.groups()
        if sign not in ("<=", ">="):
            raise ValueError(f"'{text}': '{sign}' is not allowed (allowed: <=, >=)")
        metric, factor = _metric_of(name)
        if unit:
            factor = _factor_of(unit, metric)
        try:
            limit = float(number) * factor
        except ValueError:
            raise ValueError(f"'{text}': '{number}' is not a number") from None
        if not math.isfinite(limit):
            raise ValueError(f"'{text}': the bound must be a finite number")
        return cls(metric, sign == "<=", limit, " ".join(text.split()))

    def violation(self, value: float | None) -> float:
        """Return by how much a value misses the bound, relative to it; 0 or less if it is met.

        Relative, because a sampler adds up the violations of bounds in milliseconds and in bytes.
        """
        if value is None or math.isnan(value):
            return UNMEASURED
        excess = value - self.limit if self.upper else self.limit - value
        return excess / (abs(self.limit) or 1.0)

    def identity(self) -> str:
        """Return the constraint in the unit of its metric: equal however it was written."""
        return f"{self.metric} {'<=' if self.upper else '>='} {self.limit:.12g}"


def violated(constraints: Sequence[Constraint], metrics: Mapping[str, float]) -> list[Constraint]:
    """Return the constraints that metrics, named as in `cspbench.result.METRICS`, do not meet."""
    return [constraint for constraint in constraints if constraint.violation(metrics.get(constraint.metric)) > 0]


def _metric_of(name: str) -> tuple[str, float]:
    """Metric that a name means, and the factor to its unit from that in the name: ``size_mb``, `size_bytes`, 1e6."""
    if name in _OF_TEST or name.startswith(("test_", "dense_test_")):
        raise ValueError(f"'{name}' is of the test set, which must not guide a search: use such as dev_wer")
    if name in METRICS:
        return name, 1.0
    stem, _, suffix = name.rpartition("_")
    for metric, described in METRICS.items():
        factor = UNITS.get(described.unit, {}).get(suffix.lower())
        if factor is not None and metric.rpartition("_")[0] == stem:
            return metric, factor
    usable = [metric for metric in METRICS if not metric.startswith(("test_", "dense_")) and metric not in _OF_TEST]
    raise ValueError(f"unknown metric '{name}'{did_you_mean(name, usable)} (known: {', '.join(usable)})")


def _factor_of(unit: str, metric: str) -> float:
    units = UNITS.get(METRICS[metric].unit, {})
    if unit.lower() not in units:
        allowed = ", ".join(units) or "none"
        raise ValueError(f"'{unit}' is no unit of {metric} (allowed: {allowed})")
    return units[unit.lower()]
