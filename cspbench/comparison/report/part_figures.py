"""Figures of one sparsity and budget: the WER of every method, and where the zeros go."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cspbench.comparison.config import CONTROL
from cspbench.comparison.report.cells import POST
from cspbench.comparison.report.drawing import drawn_units, figure, seed_rates, styles, tidy
from cspbench.comparison.report.evaluate import Evaluation, records


def method_figure(evaluation: Evaluation, corpus: str, budget: float, sparsity: float) -> Figure:
    """Test WER of every method at one sparsity and budget, a row a method, the lowest first."""
    cells = evaluation.cells
    here = (cells["corpus"] == corpus) & (cells["budget"] == budget)
    cells = cells[here & np.isclose(cells["sparsity_requested"], sparsity)].dropna(subset=["test_wer"])
    cells = cells.sort_values("test_wer")
    dagger = "† post-training. " * bool((cells["kind"] == POST).any())
    picture = figure(7.6, 1.4 + 0.32 * len(cells), _METHOD_CAPTION + dagger + drawn_units(cells))
    axes, look_of = picture.subplots(), styles(evaluation)
    runs = seed_rates(evaluation.finals)
    runs = runs[(runs["corpus"] == corpus) & (runs["budget"] == budget)]
    rows = records(cells)
    for place, row in enumerate(rows):
        colour, wer = look_of[row["method"]].colour, row["test_wer"]
        bars = 100 * np.abs([[wer - row["low"]], [row["high"] - wer]])
        axes.errorbar(100 * wer, place, xerr=bars, fmt="o", color=colour, markersize=7, elinewidth=1)
        own = runs[(runs["method"] == row["method"]) & runs["sparsity_requested"].isin([row["sparsity_requested"], 0])]
        axes.scatter(100 * own["test_wer"], [place + 0.22] * len(own), s=9, color=colour, linewidths=0)
    names = [f"{row['method']}{' †' * (row['kind'] == POST)}  {100 * row['test_wer']:.1f}" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, None)
    axes.set_xlabel("test WER (%)")
    tidy(axes)
    picture.suptitle(
        f"{evaluation.named(corpus)}: test WER at {100 * sparsity:g} % sparsity, budget {budget:g}×", fontsize=12
    )
    return picture


def density_figure(evaluation: Evaluation, corpus: str, budget: float, sparsity: float) -> Figure | None:
    """Density of each weight matrix by method at one sparsity and budget; None where nothing is known."""
    layers = evaluation.layers
    if layers.empty:
        return None
    here = (layers["corpus"] == corpus) & (layers["budget"] == budget) & (layers["method"] != CONTROL)
    layers = layers[here & np.isclose(layers["sparsity_requested"].astype(float), sparsity)]
    if layers.empty:
        return None
    names = list(dict.fromkeys(layers["layer"]))
    picture = figure(7.6, 1.8 + 0.32 * len(names), _DENSITY_CAPTION)
    axes, look_of = picture.subplots(), styles(evaluation)
    for method, part in layers.groupby("method"):
        style = look_of[str(method)]
        rows = [names.index(layer) for layer in part["layer"]]
        percent = 100 * part["density"].astype(float).clip(lower=1e-5)
        axes.plot(percent, rows, style.marker, color=style.colour, markersize=6, alpha=0.85, label=str(method))
    axes.axvline(100 * (1 - sparsity), color="0.4", linewidth=0.9, linestyle="--")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("weights kept (%)")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8.5)
    tidy(axes)
    picture.suptitle(
        f"{evaluation.named(corpus)}: weights kept by matrix at {100 * sparsity:g} % sparsity, budget {budget:g}×",
        fontsize=12,
    )
    return picture


def density_table(layers: pd.DataFrame, corpus: str, sparsity: float, budget: float) -> list[dict[str, str]]:
    """Rows to print: a matrix a row, the percentage of its weights that each method keeps a column."""
    here = (layers["corpus"] == corpus) & (layers["budget"] == budget) & (layers["method"] != CONTROL)
    layers = layers[here & np.isclose(layers["sparsity_requested"].astype(float), sparsity)]
    methods = sorted(layers["method"].unique())
    kept = {(row.layer, row.method): f"{100 * float(str(row.density)):.3g}" for row in layers.itertuples()}
    return [
        {"matrix": str(layer), **{str(method): kept.get((layer, method), "–") for method in methods}}
        for layer in dict.fromkeys(layers["layer"])
    ]


_METHOD_CAPTION = "Bars: 95 % bootstrap interval over speakers and dense models; small dots: runs. "
_DENSITY_CAPTION = "Means over runs. Dashed: the density of the whole network. "
