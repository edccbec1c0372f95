"""Plots for notebooks: each takes a frame of trials, draws on axes and returns them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from cspbench.report.bootstrap import PairedDifference
from cspbench.report.confusions import confused_words
from cspbench.report.figures import PANELS, Panel, draw, looks

_PANELS = {panel.name: panel for panel in PANELS}
LABELS = {
    "dev_wer": "dev WER (%)",
    "sparsity": "sparsity (%)",
    "loss": "training loss",
    "learning_rate": "learning rate",
}
"""Axis labels of the columns of a training curve."""


def plot_wer_vs_sparsity(trials: pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Draw test WER over sparsity, the Pareto front ringed.

    Args:
        trials: as from `load_results`, of one corpus; settings are chosen on dev here.
        axes: where to draw; the current ones of pyplot if not given.
    """
    return _panel(trials, _PANELS["wer_vs_sparsity"], axes)


def plot_wer_vs_latency(trials: pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Draw test WER over latency; see `plot_wer_vs_sparsity`."""
    return _panel(trials, _PANELS["wer_vs_latency"], axes)


def plot_latency_vs_sparsity(trials: pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Draw latency over sparsity; see `plot_wer_vs_sparsity`."""
    return _panel(trials, _PANELS["latency_vs_sparsity"], axes)


def plot_dev_vs_test(trials: pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Draw test WER over dev WER, a dot a finished trial: selection on dev is worth something if dev foretells test.

    Args:
        trials: as from `load_results`, or the finals of a comparison.
        axes: where to draw; the current ones of pyplot if not given.
    """
    axes = _axes(axes)
    done = trials[trials["state"] == "complete"]
    test = "test_wer" if "test_wer" in done else "wer"
    style = looks(done["method"])
    for method, part in done.groupby("method"):
        look = style[str(method)]
        axes.scatter(100 * part["dev_wer"], 100 * part[test], c=look.colour, marker=look.marker, s=22, label=method)
    limit = 100 * float(done[["dev_wer", test]].max().max()) * 1.05
    axes.plot([0, limit], [0, limit], color="0.6", linewidth=0.8)
    axes.set(xlabel=LABELS["dev_wer"], ylabel="test WER (%)")
    axes.legend(frameon=False)
    return axes


def plot_curves(curves: pd.DataFrame, quantity: str = "dev_wer", axes: Axes | None = None) -> Axes:
    """Draw training curves, one line a trial, coloured by method.

    Args:
        curves: as from `load_curves`.
        quantity: a column of it; records without it are skipped.
        axes: where to draw; the current ones of pyplot if not given.
    """
    axes = _axes(axes)
    style = looks(curves["method"])
    factor = 100 if quantity in ("dev_wer", "sparsity") else 1
    known = curves.dropna(subset=[quantity]) if quantity in curves else curves.head(0)
    drawn = set()
    for (method, _, _), curve in known.groupby(["method", "study", "trial_id"], sort=False, dropna=False):
        label = None if method in drawn else method
        axes.plot(curve["step"], factor * curve[quantity], color=style[str(method)].colour, alpha=0.8, label=label)
        drawn.add(method)
    axes.set(xlabel="step", ylabel=LABELS.get(quantity, quantity))
    if drawn:
        axes.legend(frameon=False)
    return axes


def plot_layers(layers: pd.DataFrame, axes: Axes | None = None) -> Axes:
    """Draw the sparsity of each layer by method as a heatmap, means over the trials of a method.

    Args:
        layers: as from `load_layers`, of trials that can be compared: of one sparsity.
        axes: where to draw; the current ones of pyplot if not given.
    """
    axes = _axes(axes)
    table = 100 * layers.pivot_table(index="layer", columns="method", values="sparsity", sort=False)
    axes.imshow(table, cmap="cividis", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(table.shape[1]), table.columns, rotation=30, ha="right")
    axes.set_yticks(range(table.shape[0]), table.index)
    for (row, column), zeros in np.ndenumerate(table.to_numpy()):
        axes.text(column, row, f"{zeros:.0f}", ha="center", va="center", color="white" if zeros < 60 else "black")
    axes.set_title("zeros (%)", fontsize=10)
    return axes


def plot_confused_words(hypotheses: pd.DataFrame, count: int = 12, axes: Axes | None = None) -> Axes:
    """Draw the most frequent word edits as bars: what was said, and what was recognised.

    Args:
        hypotheses: as from `load_hypotheses`.
        count: number of pairs.
        axes: where to draw; the current ones of pyplot if not given.
    """
    axes = _axes(axes)
    pairs = confused_words(hypotheses).head(count)[::-1]
    names = [f"{said} → {recognised}" for said, recognised in zip(pairs["reference"], pairs["hypothesis"], strict=True)]
    axes.barh(names, pairs["count"], color="0.35")
    axes.set_xlabel("times")
    return axes


def plot_differences(comparisons: Sequence[PairedDifference], labels: Sequence[str], axes: Axes | None = None) -> Axes:
    """Draw differences of word error rates with their 95 % intervals: negative where the first is better.

    Args:
        comparisons: as from `compare_trials`.
        labels: one for each.
        axes: where to draw; the current ones of pyplot if not given.
    """
    axes = _axes(axes)
    places = np.arange(len(comparisons))
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.plot([100 * c.difference for c in comparisons], places, "o", color="0.15")
    axes.hlines(places, [100 * c.low for c in comparisons], [100 * c.high for c in comparisons], color="0.15")
    axes.set_yticks(places, list(labels))
    axes.set(xlabel="difference of WER (percentage points)", ylim=(-0.6, len(places) - 0.4))
    return axes


def _panel(trials: pd.DataFrame, panel: Panel, axes: Axes | None) -> Axes:
    axes = _axes(axes)
    draw(axes, trials, panel)
    return axes


def _axes(axes: Axes | None) -> Axes:
    if axes is not None:
        return axes
    from matplotlib import pyplot

    return pyplot.gca()
