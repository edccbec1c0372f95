"""Figures of a comparison: WER over budget, sparsity and cost, and the proposed method's lead over each rival."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from cspbench.comparison.config import CONTROL
from cspbench.comparison.report.cells import POST, TRAINED
from cspbench.comparison.report.drawing import (
    GREY,
    drawn_units,
    figure,
    label_ends,
    scale_wer,
    seed_rates,
    styles,
    tidy,
    usual_budget,
)
from cspbench.comparison.report.evaluate import Evaluation
from cspbench.comparison.report.paired_tests import P_VALUES, POOLED
from cspbench.comparison.report.part_figures import density_figure, method_figure
from cspbench.report.axes import axis
from cspbench.report.figures import Look
from cspbench.report.significance import LEVEL

_FAR = 1e5
"""Per cent at which an infinite bar ends, far outside of any picture."""

COST_AT = 0.9
"""Sparsity at which WER is drawn over training cost, and densities by layer."""

BUDGET_AT = (0.9, 0.95)
"""Sparsities at which WER is drawn over budget."""


def pictures(evaluation: Evaluation) -> dict[str, Figure]:
    """Draw everything there is to draw: file name without ending -> figure."""
    result: dict[str, Figure] = {}
    cells = evaluation.cells
    if len(_courses(cells)):
        result["wer_vs_budget"] = budget_figure(evaluation)
    budget = usual_budget(evaluation)
    usual = cells[(cells["budget"] == budget) & cells["test_wer"].notna()]
    for corpus, own in usual.groupby("corpus"):
        sparsities = own.loc[own["method"] != CONTROL, "sparsity_requested"].unique()
        if len(sparsities) == 1:
            result[f"wer_by_method_{corpus}"] = method_figure(evaluation, str(corpus), budget, float(sparsities[0]))
        else:
            result[f"wer_vs_sparsity_{corpus}"] = sparsity_figure(evaluation, str(corpus), budget)
        if np.isclose(own["sparsity_requested"], COST_AT).any():
            result[f"wer_vs_cost_{corpus}"] = cost_figure(evaluation, str(corpus), budget)
        densities = density_figure(evaluation, str(corpus), budget, COST_AT)
        if densities is not None:
            result[f"densities_{corpus}"] = densities
    for corpus, tests in evaluation.tests[evaluation.tests["budget"] == budget].groupby("corpus"):
        if tests["relative_reduction"].notna().any():
            result[f"lead_{corpus}"] = lead_figure(evaluation, str(corpus), budget)
    return result


def budget_figure(evaluation: Evaluation) -> Figure:
    """Test WER of `_courses` over the training budget, a row a corpus, a column a sparsity of `BUDGET_AT`."""
    cells = _courses(evaluation.cells)
    corpora, sparsities = sorted(cells["corpus"].unique()), sorted(cells["sparsity_requested"].unique())
    picture = figure(5.4 * len(sparsities) + 1.2, 4.2 * len(corpora), _INTERVALS + _ONE_BUDGET + drawn_units(cells))
    panels = picture.subplots(len(corpora), len(sparsities), squeeze=False)
    look_of = styles(evaluation)
    dots = seed_rates(evaluation.finals)
    for row, corpus in zip(panels, corpora, strict=True):
        for axes, sparsity in zip(row, sparsities, strict=True):
            own = cells[(cells["corpus"] == corpus) & (cells["sparsity_requested"] == sparsity)]
            axes.set_xscale("log")
            scale_wer(axes, 100 * own["test_wer"], 100 * own["high"].max())
            runs = dots[(dots["corpus"] == corpus) & (dots["sparsity_requested"] == sparsity)]
            _draw_budget(axes, own, runs, look_of, evaluation.proposed)
            axes.set_title(f"{evaluation.named(corpus)}, {100 * sparsity:g} % sparsity", fontsize=10)
            axes.set_xlabel("training budget (multiples of the pruning run)")
    picture.suptitle("Test WER against training budget", fontsize=12)
    return picture


def _courses(cells: pd.DataFrame) -> pd.DataFrame:
    """Cells of the trained methods at `BUDGET_AT` that have several budgets there: of the others no course is known."""
    known = cells[(cells["kind"] == TRAINED) & cells["test_wer"].notna()]
    known = known[np.isin(known["sparsity_requested"], BUDGET_AT)]
    return known[known.groupby(["corpus", "sparsity_requested", "method"])["budget"].transform("nunique") > 1]


def _draw_budget(axes: Axes, cells: pd.DataFrame, runs: pd.DataFrame, look_of: dict[str, Look], proposed: str) -> None:
    budgets = sorted(cells["budget"].unique())
    shifts = _shifts(cells["method"], proposed)
    ends = []
    for method, part in cells.sort_values("budget").groupby("method"):
        style, front = look_of[str(method)], method == proposed
        beside = 1 + shifts[str(method)] / 2
        across, up = beside * part["budget"].to_numpy(), 100 * part["test_wer"].to_numpy()
        bars = 100 * np.abs([part["test_wer"] - part["low"], part["high"] - part["test_wer"]])
        look: dict[str, Any] = {"color": style.colour, "zorder": 6 if front else 4}
        dashes = "--" if method == CONTROL else "-"
        axes.plot(
            across, up, dashes, marker=style.marker, markersize=7 if front else 5, lw=2.6 if front else 1.1, **look
        )
        axes.errorbar(across, up, yerr=bars, fmt="none", elinewidth=1.4 if front else 0.7, alpha=0.4, **look)
        own = runs[runs["method"] == method]
        places = beside * own["budget"]
        axes.scatter(places, 100 * own["test_wer"], s=7, color=style.colour, alpha=0.35, linewidths=0, zorder=3)
        ends.append((float(across[-1]), float(up[-1]), str(method), style))
    axes.set_xticks(budgets, [f"{budget:g}×" for budget in budgets])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(budgets[0] / 1.2, budgets[-1] * 1.2)
    label_ends(axes, ends)
    tidy(axes)


def sparsity_figure(evaluation: Evaluation, corpus: str, budget: float) -> Figure:
    """Test WER over sparsity on one corpus at one budget, trained and post-training methods apart."""
    cells = evaluation.cells[(evaluation.cells["corpus"] == corpus) & (evaluation.cells["budget"] == budget)]
    there = [kind for kind in (TRAINED, POST) if cells.loc[cells["kind"] == kind, "test_wer"].notna().any()]
    picture = figure(width=7.4 * len(there), height=5.6, caption=_INTERVALS + drawn_units(cells))
    panels = picture.subplots(1, len(there), sharey=True, squeeze=False)[0]
    dots = seed_rates(evaluation.finals)
    look_of = styles(evaluation)
    scale_wer(panels[0], 100 * pd.concat([cells["test_wer"], cells["dense_wer"]]), 100 * cells["high"].max())
    for axes, kind in zip(panels, there, strict=True):
        own = dots[(dots["corpus"] == corpus) & (dots["kind"] == kind) & (dots["budget"] == budget)]
        _draw_sparsity(axes, cells[cells["kind"] == kind], own, look_of, evaluation.proposed)
        axes.set_title(f"{kind} methods", fontsize=10)
    picture.suptitle(f"{evaluation.named(corpus)}: test WER by sparsity, budget {budget:g}×", fontsize=12)
    return picture


def cost_figure(evaluation: Evaluation, corpus: str, budget: float, sparsity: float = COST_AT) -> Figure:
    """Test WER over seconds of training, at one sparsity; steps are named where they exceed the proposed method's."""
    cells = evaluation.cells[(evaluation.cells["corpus"] == corpus) & (evaluation.cells["budget"] == budget)]
    cells = (
        cells[np.isclose(cells["sparsity_requested"], sparsity)]
        .dropna(subset=["test_wer", "train_seconds"])
        .sort_values("test_wer")
    )
    caption = "Bars: 95 % interval." + _UNTRAINED * bool((cells["kind"] == POST).any())
    picture = figure(width=7.6, height=5.4, caption=caption)
    axes = picture.subplots()
    look_of = styles(evaluation)
    x, y = cells["train_seconds"].clip(lower=0.1), 100 * cells["test_wer"]
    axes.set_xscale("log")
    scale_wer(axes, y, 100 * cells["high"].max())
    for row, across, up in zip(cells.to_dict("records"), x, y, strict=True):
        style = look_of[row["method"]]
        bars = [[max(0.0, up - 100 * row["low"])], [max(0.0, 100 * row["high"] - up)]]
        extra = f" ({row['steps_ratio']:.3g}× steps)" if row["steps_ratio"] > 1.01 else ""
        look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "label": f"{row['method']}{extra}"}
        axes.errorbar(across, up, yerr=bars, markersize=8, linestyle="none", elinewidth=0.8, alpha=0.85, **look)
    axes.set_xlim(x.min() / 1.3, x.max() * 1.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8.5, title="by WER, lowest first")
    axes.set_xlabel("training seconds of the pruning run (median of the runs)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "235" else ""))
    tidy(axes)
    picture.suptitle(
        f"{evaluation.named(corpus)}: test WER against training cost at {100 * sparsity:g} % sparsity, "
        f"budget {budget:g}×",
        fontsize=12,
    )
    return picture


def lead_figure(evaluation: Evaluation, corpus: str, budget: float) -> Figure:
    """Relative WER reduction against each rival with its interval, a panel a sparsity; corpus may be "pooled"."""
    tests = evaluation.tests[(evaluation.tests["corpus"] == corpus) & (evaluation.tests["budget"] == budget)]
    tests = tests.dropna(subset=["difference"])
    faultless = tests["relative_reduction"].isna()
    named = ", ".join(sorted(set(tests.loc[faultless, "rival"])))
    without = f"Not drawn where they made no error at all: {named}. " * bool(named)
    tests = tests[~faultless]
    order = [*_order(tests, TRAINED), *_order(tests, POST)]
    sparsities = sorted(tests["sparsity_requested"].unique())
    dagger = "† post-training. " * any(kind == POST for _, kind in order)
    picture = figure(
        max(6.0, 1.2 + 2.5 * len(sparsities)),
        1.6 + 0.27 * len(order),
        _LEAD_CAPTION + without + dagger + drawn_units(tests),
    )
    look_of = styles(evaluation)
    panels = picture.subplots(1, len(sparsities), sharex=True, sharey=True, squeeze=False)[0]
    for axes, sparsity in zip(panels, sparsities, strict=True):
        _draw_lead(axes, tests[tests["sparsity_requested"] == sparsity], order, look_of)
        axes.set_title(f"{100 * sparsity:g} % sparsity", fontsize=10)
        axes.set_xlabel("WER reduction (%)")
    names = [f"{rival} †" if kind == POST else rival for rival, kind in order]
    panels[0].set_yticks(range(len(order)), names)
    panels[0].set_ylim(len(order) - 0.5, -0.5)
    panels[0].set_xlim(*_lead_limits(tests))
    title = "all corpora together" if corpus == POOLED else evaluation.named(corpus)
    picture.suptitle(f"{title}: {evaluation.proposed} against each rival, budget {budget:g}×", fontsize=12)
    return picture


_INTERVALS = (
    "Bars: 95 % bootstrap interval over speakers and dense models; faint dots: runs. Methods share the test speech: "
    "where bars overlap, the paired tests may still tell them apart. Settings chosen on dev. "
)
_ONE_BUDGET = "Methods run at one budget only are in the tables. "
_UNTRAINED = " Post-training methods do not train: drawn at the seconds their pruning takes."
_LEAD_CAPTION = (
    f"Bars: 95 % interval of the paired bootstrap. Filled: p < {LEVEL:g} by sign flips, bootstrap and MAPSSWE, "
    "each Holm-corrected over the whole table. "
)


def _shifts(methods: pd.Series, proposed: str) -> dict[str, float]:
    """Offsets by method, so that bars do not hide each other; the proposed method is in the middle."""
    rivals = sorted(set(methods) - {proposed})
    beside = [(number // 2 + 1) * (-1) ** number for number in range(len(rivals))]
    return {proposed: 0.0} | {rival: 0.03 * place for rival, place in zip(rivals, beside, strict=True)}


def _draw_sparsity(
    axes: Axes, cells: pd.DataFrame, dots: pd.DataFrame, look_of: dict[str, Look], proposed: str
) -> None:
    x = axis("sparsity")
    shifts = _shifts(cells.dropna(subset=["test_wer"])["method"], proposed)
    ends = []
    for method, part in cells.dropna(subset=["test_wer"]).sort_values("sparsity_requested").groupby("method"):
        style, front = look_of[str(method)], str(method) in (proposed, f"{proposed}_post")
        across, up = x.place(part["sparsity_requested"]) + shifts[str(method)], 100 * part["test_wer"].to_numpy()
        bars = 100 * np.abs([part["test_wer"] - part["low"], part["high"] - part["test_wer"]])
        look: dict[str, Any] = {"color": style.colour, "zorder": 6 if front else 4}
        axes.plot(across, up, marker=style.marker, markersize=7 if front else 5, lw=2.6 if front else 1.1, **look)
        axes.errorbar(
            across,
            up,
            yerr=bars,
            fmt="none",
            elinewidth=1.4 if front else 0.7,
            alpha=0.3 if style.colour == GREY else 0.55,
            **look,
        )
        # The runs of the control have no sparsity: they would stretch the axis to 0.
        own = dots[(dots["method"] == method) & dots["sparsity_requested"].isin(part["sparsity_requested"])]
        places = x.place(own["sparsity_requested"]) + shifts[str(method)]
        axes.scatter(places, 100 * own["test_wer"], s=7, color=style.colour, alpha=0.35, linewidths=0, zorder=3)
        ends.append((float(across[-1]), float(up[-1]), str(method), style))
    dense = 100 * cells["dense_wer"].mean()
    axes.axhline(dense, color="0.25", linestyle="--", linewidth=1.1, zorder=2)
    axes.annotate(
        "dense",
        (1, dense),
        xytext=(-3, -3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8.5,
    )
    label_ends(axes, ends)
    x.dress(axes.xaxis, cells["sparsity_requested"].to_numpy(dtype=float))
    tidy(axes)


def _draw_lead(axes: Axes, tests: pd.DataFrame, order: Sequence[tuple[str, str]], look_of: dict[str, Look]) -> None:
    places = {rival: place for place, (rival, _) in enumerate(order)}
    axes.axvline(0, color="0.4", linewidth=0.9)
    for row in tests.to_dict("records"):
        place, colour, rate = places[row["rival"]], look_of[row["rival"]].colour, 100 / row["rival_wer"]
        sure = all(row[f"{name}_holm"] < LEVEL for name in P_VALUES)
        ends = np.clip([-row["high"] * rate, -row["low"] * rate], -_FAR, _FAR)  # an infinite bar would not be drawn
        axes.hlines(place, *ends, color=colour, linewidth=1.5)
        face = colour if sure else "white"
        axes.plot(100 * row["relative_reduction"], place, "o", color=colour, markerfacecolor=face, markersize=6)
    if {kind for _, kind in order} == {TRAINED, POST}:
        axes.axhline(sum(kind == TRAINED for _, kind in order) - 0.5, color="0.7", linewidth=0.7, linestyle=":")
    axes.grid(axis="x", alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _lead_limits(tests: pd.DataFrame) -> tuple[float, float]:
    """Wide enough for the leads and most of their bars; one rival's bar out of bounds must not squeeze the rest."""
    low, high = 100 * tests["relative_reduction"].min(), 100 * tests["relative_reduction"].max()
    bars = 100 * (tests["high"] - tests["low"]) / tests["rival_wer"] / 2
    pad = max(5.0, float(bars[np.isfinite(bars)].median())) if np.isfinite(bars).any() else 5.0
    return min(low, 0) - pad, max(high, 0) + pad


def _order(tests: pd.DataFrame, kind: str) -> list[tuple[str, str]]:
    """Rivals of a kind, the best first, by mean relative reduction over sparsities."""
    means = tests[tests["kind"] == kind].groupby("rival")["relative_reduction"].mean().sort_values()
    return [(str(rival), kind) for rival in means.index]
