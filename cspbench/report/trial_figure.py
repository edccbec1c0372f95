"""Pictures of layers and training: one trial, and the layers of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

_COLOUR, _OTHER = "#0072B2", "#D55E00"

WIDTH = 9.0
"""Inches of the picture of a trial."""

MOST_NAMES = 0.4
"""Fraction of it that the names of layers take at most."""

NAME_SIZE = 7
"""Points of the names of layers."""


def trial_picture(
    layers: Mapping[str, float], curve: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]] = ()
) -> bytes:
    """Draw layers and curve side by side, as a PNG.

    Margins follow from the longest name: a layout engine would measure every text several times, and `savefig` would
    draw everything twice. A sweep draws one picture for each trial.

    Args:
        layers: fraction of zeros by weight matrix.
        curve: records of the training curve, see `cspbench.report.load_curve`.
        steps: losses of single steps, where they were recorded; else the curve's are drawn.
    """
    height = 0.9 + max(1.8, 0.24 * len(layers))
    picture = Figure(figsize=(WIDTH, height))
    canvas = FigureCanvasAgg(picture)
    names = _inches(max(layers, key=len, default=""), canvas)
    bottom, top = 0.5 / height, 1 - 0.15 / height
    left = min(0.2 + names, MOST_NAMES * WIDTH) / WIDTH
    middle = (left + 1) / 2
    _draw_layers(picture.add_axes((left, bottom, middle - left - 0.04, top - bottom)), layers)
    _draw_curve(picture.add_axes((middle + 0.05, bottom, 0.88 - middle, top - bottom)), curve, steps)
    png = BytesIO()
    canvas.print_png(png)
    return png.getvalue()


def layer_figure(layers: pd.DataFrame, title: str) -> Figure:
    """Draw the sparsity of layers as a heatmap, a column a trial.

    Args:
        layers: fraction of zeros, a row a weight matrix and a column a trial; NaN where a trial has no such matrix.
        title: of the figure.
    """
    rows, columns = layers.shape
    picture = Figure(figsize=(3.4 + 0.42 * columns, 1.6 + 0.28 * rows), layout="constrained")
    FigureCanvasAgg(picture)
    axes = picture.subplots()
    axes.imshow(layers.to_numpy(dtype=float), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(columns), list(layers.columns), rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(rows), list(layers.index), fontsize=7)
    for (row, column), value in np.ndenumerate(layers.to_numpy(dtype=float)):
        if np.isfinite(value):
            ink = "white" if value > 0.6 else "0.1"
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=6.5, color=ink)
    axes.set_title(f"{title}: zeros by weight matrix (%)", fontsize=9)
    return picture


def _inches(text: str, canvas: FigureCanvasAgg) -> float:
    """Return the width of a text in the size of the names of layers."""
    width, _, _ = canvas.get_renderer().get_text_width_height_descent(text, FontProperties(size=NAME_SIZE), False)
    return width / canvas.figure.dpi


def _draw_layers(axes: Axes, layers: Mapping[str, float]) -> None:
    places = range(len(layers) - 1, -1, -1)
    values = [100 * zeros for zeros in layers.values()]
    axes.barh(places, values, color=_COLOUR, height=0.7)
    for place, value in zip(places, values, strict=True):
        axes.text(value + 1, place, f"{value:.0f}", va="center", fontsize=NAME_SIZE)
    axes.set(xlim=(0, 108), xlabel="zeros (%)")
    axes.set_yticks(places, list(layers), fontsize=NAME_SIZE)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curve(axes: Axes, curve: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]) -> None:
    losses = [row for row in steps or curve if "loss" in row]
    axes.set(xlabel="step", ylabel="training loss")
    axes.spines["top"].set_visible(False)
    if losses:
        axes.plot([row["step"] for row in losses], [row["loss"] for row in losses], color=_COLOUR, linewidth=1)
        lowest, highest = (limit(row["loss"] for row in losses) for limit in (min, max))
        if lowest > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if highest < 1000 * lowest else (1,)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
    decoded = [row for row in curve if row.get("dev_wer") is not None]
    if decoded:
        errors = axes.twinx()
        errors.spines["top"].set_visible(False)
        errors.plot(
            [row["step"] for row in decoded],
            [100 * row["dev_wer"] for row in decoded],
            "o-",
            color=_OTHER,
            markersize=3,
        )
        errors.set_ylabel("dev WER (%)", color=_OTHER)
        errors.set_ylim(0)
