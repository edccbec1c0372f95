"""Parts that the figures of a comparison share: canvases with captions, WER axes, labels, the looks of methods."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cspbench.comparison.config import CONTROL
from cspbench.comparison.report.evaluate import Evaluation
from cspbench.report.figures import Look, looks

GREY = "0.55"

COLOURED = 5
"""Rivals with a colour of their own; the others are grey, told apart by marker and label."""

USUAL_BUDGET = 4.0
"""Budget of the figures over sparsity, where the comparison has it."""


def usual_budget(evaluation: Evaluation) -> float:
    """`USUAL_BUDGET`, or else the smallest budget of the comparison."""
    budgets = evaluation.cells["budget"]
    return USUAL_BUDGET if (budgets == USUAL_BUDGET).any() else float(budgets.min())


def styles(evaluation: Evaluation) -> dict[str, Look]:
    """Looks of all methods: colours for the proposed one and the best `COLOURED` rivals, the same in every figure.

    Rivals are ranked by their mean test WER. A method that ends in ``_post`` looks like the one it is named after.
    """
    methods = sorted(set(evaluation.finals["method"]))
    plain = {method: method.removesuffix("_post") for method in methods}
    means = evaluation.cells.groupby("method")["test_wer"].mean().sort_values()
    ranked = dict.fromkeys(plain.get(str(method), str(method)) for method in means.dropna().index)
    front = [name for name in ranked if name not in (evaluation.proposed, CONTROL)][:COLOURED]
    given, coloured = looks(plain.values()), looks([evaluation.proposed, *front])
    grey = {method: Look(GREY, given[name].marker) for method, name in plain.items()}
    bright = {
        method: Look(coloured[name].colour, given[name].marker) for method, name in plain.items() if name in coloured
    }
    return grey | bright | {CONTROL: Look("0.15", "_")}


def seed_rates(finals: pd.DataFrame) -> pd.DataFrame:
    """Test WER of each run that was made on every fold, as ``test_wer`` beside the columns of its cell."""
    done = finals[finals["state"] == "complete"].assign(errors=finals["test_wer"] * finals["words"])
    cell = ["corpus", "kind", "method", "budget", "sparsity_requested"]
    sums = done.groupby([*cell, "dense_seed", "seed"], as_index=False).agg(
        errors=("errors", "sum"), words=("words", "sum"), folds=("fold", "nunique")
    )
    folds = done.groupby(cell)["fold"].nunique().rename("due").reset_index()
    sums = sums.merge(folds, on=cell)
    return sums.assign(test_wer=sums["errors"] / sums["words"])[sums["folds"] == sums["due"]]


def figure(width: float, height: float, caption: str) -> Figure:
    """A figure with a caption below, kept clear of the axes."""
    lines = textwrap.wrap(caption, int(width * 18))
    below = 0.1 + 0.15 * len(lines)
    picture = Figure(figsize=(width, height + below), layout="constrained")
    FigureCanvasAgg(picture)
    picture.get_layout_engine().set(rect=(0, below / (height + below), 1, 1 - below / (height + below)))  # type: ignore[union-attr, call-arg]
    picture.text(0.5, 0.06 / (height + below), "\n".join(lines), ha="center", va="bottom", fontsize=7.5, color="0.35")
    return picture


def drawn_units(table: pd.DataFrame) -> str:
    """Caption on what the intervals are drawn from."""
    drawn = sorted(set(table["drawn"].dropna()) - {""})
    return f"Drawn: {'; '.join(drawn)}." if drawn else ""


def tidy(axes: Axes) -> None:
    """Light grid, no box."""
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def scale_wer(axes: Axes, percent: pd.Series, top: float) -> None:
    """Make room for WERs, and for bars up to `top`; logarithmic where they span more than a linear axis shows well."""
    known = percent[percent > 0]
    low, high = (known.min() / 1.4, max(top, known.max()) * 1.1) if len(known) else (0.1, 1.0)
    if len(known) and known.max() > 6 * known.min():
        axes.set_yscale("log")
        axes.set_ylim(low, high)
        ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if low <= tick <= high]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    else:
        axes.set_ylim(0, high)
    axes.set_ylabel("test WER (%)")


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, Look]], gap: float = 0.034) -> None:
    """Write names at the right edge beside where things end, pushed apart so that none covers another."""
    to_axes = axes.transAxes.inverted()
    heights = [to_axes.transform(axes.transData.transform((x, y)))[1] for x, y, _, _ in ends]
    placed = spread_apart(heights, gap)
    for (x, y, name, look), height in zip(ends, placed, strict=True):
        axes.annotate(
            name,
            (x, y),
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color="0.3" if look.colour == GREY else look.colour,
            arrowprops={
                "arrowstyle": "-",
                "color": look.colour,
                "linewidth": 0.7,
                "linestyle": ":",  # not to be taken for a curve
                "alpha": 0.6,
                "shrinkB": 4,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )


def spread_apart(heights: Sequence[float], gap: float) -> list[float]:
    """Move heights as little as need be for neighbours to lie `gap` apart, within 0 … 1 if there is room."""
    order = np.argsort(heights)
    placed = np.array(heights, dtype=float)[order]
    for _ in range(200):
        for i in range(len(placed) - 1):
            short = gap - (placed[i + 1] - placed[i])
            if short > 1e-6:
                placed[i] -= short / 2
                placed[i + 1] += short / 2
        placed = np.clip(placed, 0, 1) if len(placed) * gap < 1 else placed
    result = np.empty_like(placed)
    result[order] = placed
    return result.tolist()
