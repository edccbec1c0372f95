"""Axes of the pictures: units, direction, and a scale that shows the range at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.axis import Axis as MplAxis
from matplotlib.axis import XAxis
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray

from cspbench.units import size_unit, time_unit

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """Looks of a quantity on an axis.

    Attributes:
        name: in titles.
        place: from values to positions on the axis.
        dress: sets scale, ticks and label of a matplotlib axis for the values drawn on it.
        dodge: positions between methods that share a value, so that none hides another.
    """

    name: str
    place: Callable[[ArrayLike], Floats]
    dress: Callable[[MplAxis, Floats], None]
    dodge: float = 0.0


def axis(quantity: str) -> Axis:
    """Look up the axis of a column: ``sparsity``, ``test_wer``, ``latency_ms`` or ``size_bytes``."""
    return _AXES[quantity]


def _percent(values: ArrayLike) -> Floats:
    return 100 * np.asarray(values, dtype=float)


def _plain(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=float)


def _halvings(sparsity: ArrayLike) -> Floats:
    """Number of times the weights were halved: 0, 50, 75, 87.5 % are equidistant, as their difficulty and gain are."""
    return -np.log2(1 - np.asarray(sparsity, dtype=float))


def _dress_sparsity(axis: MplAxis, values: Floats) -> None:
    drawn = np.unique(np.round(values[~np.isnan(values)], 4))
    ticks = drawn if len(drawn) <= 8 else np.array([0, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99])
    axis.set_major_locator(FixedLocator(_halvings(ticks).tolist()))
    axis.set_major_formatter(FixedFormatter([f"{100 * tick:.4g}" for tick in ticks]))
    axis.set_label_text("sparsity (%), spaced by weights left")


def _dress_wer(axis: MplAxis, values: Floats) -> None:
    _scale(axis, 100 * values, smallest=0.1)
    axis.set_label_text("test WER (%)")


def _dress_latency(axis: MplAxis, values: Floats) -> None:
    unit = time_unit(values)
    _scale(axis, values, smallest=0.01)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * unit.factor:g}"))
    axis.set_label_text(f"latency ({unit.name} per model step)")


def _dress_size(axis: MplAxis, values: Floats) -> None:
    unit = size_unit(values)
    _scale(axis, values, smallest=1.0)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * unit.factor:g}"))
    axis.set_label_text(f"size of the packed file ({unit.name})")


def _scale(axis: MplAxis, values: Floats, smallest: float) -> None:
    """Linear from zero, or logarithmic where the values span a decade; zeros keep a place of their own on it."""
    known = values[~np.isnan(values)]
    positive = known[known > 0]
    if len(positive) == 0 or positive.max() < 10 * positive.min():
        _from_zero(axis)
        return
    scale = axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale
    zero = bool((known == 0).any())
    if zero:
        scale("symlog", linthresh=max(smallest, float(positive.min())), linscale=0.4)
    else:
        scale("log", nonpositive="clip")
    axis.set_major_locator(FixedLocator([0.0] * zero + _one_two_five(float(positive.min()), float(positive.max()))))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _from_zero(axis: MplAxis) -> None:
    (axis.axes.set_xlim if isinstance(axis, XAxis) else axis.axes.set_ylim)(0)


def _one_two_five(low: float, high: float) -> list[float]:
    """Ticks 1, 2, 5, 10, … that cover a range and a little more."""
    decades = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 1)
    ticks = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
    return [tick for tick in ticks if low / 2 <= tick <= high * 2]


_AXES = {
    "sparsity": Axis("sparsity", _halvings, _dress_sparsity, dodge=0.05),
    "test_wer": Axis("WER", _percent, _dress_wer),
    "latency_ms": Axis("latency", _plain, _dress_latency),
    "size_bytes": Axis("size", _plain, _dress_size),
}
