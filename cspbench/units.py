"""Numbers for people: times in microseconds or milliseconds, sizes in kilobytes or megabytes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """A unit to print numbers in.

    Attributes:
        name: printed behind a number, or in the heading of a column.
        factor: of a number in the unit it is stored in.
        digits: behind the decimal point.
    """

    name: str
    factor: float
    digits: int

    def format(self, value: float) -> str:
        """Return the number alone, in this unit."""
        return f"{value * self.factor:.{self.digits}f}"

    def text(self, value: float) -> str:
        """Return the number and the unit."""
        return f"{self.format(value)} {self.name}".rstrip()


def time_unit(milliseconds: Iterable[float]) -> Unit:
    """Return the unit in which all of some times, in milliseconds, have three digits or more.

    Example:
        >>> time_unit([0.0131]).text(0.0131)
        '13.1 µs'
        >>> time_unit([0.213, 4.0]).text(0.213)
        '213 µs'
        >>> time_unit([12.5]).text(12.5)
        '12.5 ms'
    """
    smallest = min((time for time in milliseconds if time > 0), default=1.0)
    if smallest < 0.1:
        return Unit("µs", 1000, 1)
    if smallest < 1:
        return Unit("µs", 1000, 0)
    return Unit("ms", 1, 2 if smallest < 10 else 1)


def size_unit(sizes: Iterable[float]) -> Unit:
    """Return the unit in which all of some sizes, in bytes, have three digits or so; 1 MB is 10^6 bytes.

    Example:
        >>> size_unit([323_466]).text(323_466)
        '323 kB'
        >>> size_unit([1_293_636]).text(1_293_636)
        '1.29 MB'
    """
    smallest = min((size for size in sizes if size > 0), default=1e6)
    return Unit("kB", 1e-3, 0) if smallest < 1e6 else Unit("MB", 1e-6, 2 if smallest < 1e8 else 0)


_PLAIN = {
    "fraction": Unit("%", 100, 2),
    "times": Unit("×", 1, 2),
    "s": Unit("s", 1, 1),
    "nats": Unit("nats", 1, 3),
    "s/s": Unit("s/s", 1, 5),
}


def metric_unit(unit: str, values: Iterable[float]) -> Unit:
    """Return the unit to print values of a metric in.

    Args:
        unit: of the metric, as in `cspbench.result.METRICS`.
        values: to be printed in it.
    """
    if unit == "ms":
        return time_unit(values)
    if unit == "bytes":
        return size_unit(values)
    return _PLAIN.get(unit, Unit("", 1, 0))
