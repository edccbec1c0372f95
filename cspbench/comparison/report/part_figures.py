"""Figures that take a comparison apart: the ablation of the proposed method, and where the zeros go."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cspbench.comparison.config import CONTROL
from cspbench.comparison.report.drawing import drawn_units, figure, scale_wer, seed_rates, styles, tidy
from cspbench.comparison.report.evaluate import Evaluation
from cspbench.report.axes import axis
from cspbench.report.figures import looks

ABLATION = {
    "magnitude": ("magnitude", "none"),
    "magnitude_refit": ("magnitude", "refit"),
    "fisher_magnitude": ("Fisher", "none"),
    "csp": ("Fisher", "refit"),
}
"""Methods of the 2x2 ablation by label: ranking, and recovery of the kept weights."""


def ablation_figure(evaluation: Evaluation, corpus: str, budget: float) -> Figure | None:
    """Test WER over sparsity of the methods of `ABLATION`: colour by ranking, line by recovery; None if one lacks."""
    cells = evaluation.cells
    cells = cells[(cells["corpus"] == corpus) & (cells["budget"] == budget) & cells["test_wer"].notna()]
    if not set(ABLATION) <= set(cells["method"]):
        return None
    cells = cells[cells["method"].isin(ABLATION)]
    picture = figure(6.4, 4.8, _ABLATION_CAPTION + drawn_units(cells))
    axes, across = picture.subplots(), axis("sparsity")
    scale_wer(axes, 100 * cells["test_wer"], 100 * cells["high"].max())
    colours = {"magnitude": looks(["magnitude"])["magnitude"].colour, "Fisher": looks(["csp"])["csp"].colour}
    dots = seed_rates(evaluation.finals)
    dots = dots[(dots["corpus"] == corpus) & (dots["budget"] == budget)]
    for shift, (method, (ranking, recovery)) in enumerate(ABLATION.items()):
        part = cells[cells["method"] == method].sort_values("sparsity_requested")
        x = across.place(part["sparsity_requested"]) + 0.02 * (shift - 1.5)
        wer, colour = 100 * part["test_wer"], colours[ranking]
        bars = 100 * np.abs([part["test_wer"] - part["low"], part["high"] - part["test_wer"]])
        dashes, marker = ("-", "o") if recovery == "refit" else (":", "s")
        axes.errorbar(
            x,
            wer,
            yerr=bars,
            fmt=dashes,
            marker=marker,
            color=colour,
            elinewidth=0.8,
            capsize=0,
            label=f"{ranking} ranking, {'refit' if recovery == 'refit' else 'no refit'} ({method})",
        )
        own = dots[dots["method"] == method]
        x = across.place(own["sparsity_requested"]) + 0.02 * (shift - 1.5)
        axes.scatter(x, 100 * own["test_wer"], s=8, color=colour, alpha=0.35, linewidths=0)
    across.dress(axes.xaxis, np.sort(cells["sparsity_requested"].unique()))
    axes.legend(frameon=False, fontsize=8.5)
    tidy(axes)
    picture.suptitle(f"{evaluation.named(corpus)}: ranking and refit apart, budget {budget:g}×", fontsize=12)
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


_ABLATION_CAPTION = (
    "All four on the same ramp and budget. Bars: 95 % bootstrap interval over speakers and dense models; faint dots: "
    "runs. "
)
_DENSITY_CAPTION = "Means over runs. Dashed: the density of the whole network. "
