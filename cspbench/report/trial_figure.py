"""Pictures of layers and training: one trial, and the layers of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_COLOUR, _OTHER = "#0072B2", "#D55E00"


def trial_figure(
    layers: Mapping[str, float], curve: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]] = ()
) -> Figure:
    """Draw layers and curve side by side.

    Args:
        layers: fraction of zeros by weight matrix.
        curve: records of the training curve, see `cspbench.report.load_curve`.
        steps: losses of single steps, where they were recorded; else the curve's are drawn.
    """
    picture = Figure(figsize=(9, 0.9 + max(1.8, 0.24 * len(layers))), layout="constrained")
    FigureCanvasAgg(picture)
    left, right = picture.subplots(1, 2)
    _draw_layers(left, layers)
    _draw_curve(right, curve, steps)
    return picture


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


def _draw_layers(axes: Axes, layers: Mapping[str, float]) -> None:
    names = list(layers)[::-1]
    values = [100 * layers[name] for name in names]
    bars = axes.barh(names, values, color=_COLOUR, height=0.7)
    axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=7)
    axes.set(xlim=(0, 108), xlabel="zeros (%)")
    axes.tick_params(axis="y", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_curve(axes: Axes, curve: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]) -> None:
    losses = [row for row in steps or curve if "loss" in row]
    axes.set(xlabel="step", ylabel="training loss")
    axes.spines["top"].set_visible(False)
    if losses:
        axes.plot([row["step"] for row in losses], [row["loss"] for row in losses], color=_COLOUR, linewidth=1)
        if min(row["loss"] for row in losses) > 0:
            axes.set_yscale("log")
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
