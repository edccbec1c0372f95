"""Figures of a comparison: WER over sparsity and over training cost, and the proposed method's lead over rivals."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from cspbench.comparison.report.cells import POST, TRAINED
from cspbench.comparison.report.evaluate import Evaluation
from cspbench.comparison.report.paired_tests import POOLED
from cspbench.comparison.report.verdicts import LEVEL, main_name
from cspbench.report.axes import axis
from cspbench.report.figures import Look, looks

_GREY = "0.55"
_FAR = 1e5
"""Per cent at which an infinite bar ends, far outside of any picture."""

COST_AT = 0.9
"""Sparsity at which WER is drawn over training cost."""


def pictures(comparison: Evaluation) -> dict[str, Figure]:
    """Draw everything there is to draw: file name without ending -> figure."""
    result: dict[str, Figure] = {}
    for corpus, cells in comparison.cells.groupby("corpus"):
        if cells["wer"].notna().any():
            result[f"wer_vs_sparsity_{corpus}"] = sparsity_figure(comparison, str(corpus))
        if cells.loc[np.isclose(cells["sparsity_requested"], COST_AT), "wer"].notna().any():
            result[f"wer_vs_cost_{corpus}"] = cost_figure(comparison, str(corpus))
    for corpus, tests in comparison.tests.groupby("corpus"):
        if tests["relative_reduction"].notna().any():
            result[f"lead_{corpus}"] = lead_figure(comparison, str(corpus))
    return result


def sparsity_figure(comparison: Evaluation, corpus: str) -> Figure:
    """Test WER over sparsity of one corpus, trained and post-training methods apart."""
    cells = comparison.cells[comparison.cells["corpus"] == corpus]
    there = [kind for kind in (TRAINED, POST) if cells.loc[cells["kind"] == kind, "wer"].notna().any()]
    picture = _figure(width=7.4 * len(there), height=5.6, caption=_SPARSITY_CAPTION + _drawn(cells))
    panels = picture.subplots(1, len(there), sharey=True, squeeze=False)[0]
    dots = seeds(comparison.finals)
    _scale_wer(panels[0], 100 * pd.concat([cells["wer"], cells["dense_wer"]]), 100 * cells["wer_high"].max())
    for axes, kind in zip(panels, there, strict=True):
        own = dots[(dots["corpus"] == corpus) & (dots["kind"] == kind)]
        _draw_sparsity(axes, cells[cells["kind"] == kind], own, comparison.proposed)
        axes.set_title(f"{kind} methods", fontsize=10)
    picture.suptitle(f"{corpus}: test WER by sparsity", fontsize=12)
    return picture


def seeds(finals: pd.DataFrame) -> pd.DataFrame:
    """Test WER of each seed that was run on every fold: corpus, kind, method, sparsity_requested, seed, wer."""
    done = finals[finals["state"] == "complete"].assign(edits=finals["wer"] * finals["words"])
    cell = ["corpus", "kind", "method", "sparsity_requested"]
    sums = done.groupby([*cell, "seed"], as_index=False).agg(
        edits=("edits", "sum"), words=("words", "sum"), folds=("fold", "nunique")
    )
    folds = done.groupby(cell)["fold"].nunique().rename("due").reset_index()
    sums = sums.merge(folds, on=cell)
    return sums.assign(wer=sums["edits"] / sums["words"])[sums["folds"] == sums["due"]]


def cost_figure(comparison: Evaluation, corpus: str, sparsity: float = COST_AT) -> Figure:
    """Test WER over seconds of training, at one sparsity; steps are named where they exceed the proposed method's."""
    cells = comparison.cells[comparison.cells["corpus"] == corpus]
    cells = (
        cells[np.isclose(cells["sparsity_requested"], sparsity)]
        .dropna(subset=["wer", "train_seconds"])
        .sort_values("wer")
    )
    caption = "Bars: 95 % interval." + _UNTRAINED * bool((cells["kind"] == POST).any())
    picture = _figure(width=7.6, height=5.4, caption=caption)
    axes = picture.subplots()
    look_of = styles(cells["method"], comparison.proposed)
    x, y = cells["train_seconds"].clip(lower=0.1), 100 * cells["wer"]
    axes.set_xscale("log")
    _scale_wer(axes, y, 100 * cells["wer_high"].max())
    for row, across, up in zip(cells.to_dict("records"), x, y, strict=True):
        style = look_of[row["method"]]
        bars = [[max(0.0, up - 100 * row["wer_low"])], [max(0.0, 100 * row["wer_high"] - up)]]
        extra = f" ({row['steps_ratio']:.3g}× steps)" if row["steps_ratio"] > 1.01 else ""
        look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "label": f"{row['method']}{extra}"}
        axes.errorbar(across, up, yerr=bars, markersize=8, linestyle="none", elinewidth=0.8, alpha=0.85, **look)
    axes.set_xlim(x.min() / 1.3, x.max() * 1.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8.5, title="by WER, lowest first")
    axes.set_xlabel("training seconds of the pruning run (mean over seeds)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:.0e}"[0] in "235" else ""))
    _tidy(axes)
    picture.suptitle(f"{corpus}: test WER against training cost at {100 * sparsity:g} % sparsity", fontsize=12)
    return picture


def lead_figure(comparison: Evaluation, corpus: str) -> Figure:
    """Relative WER reduction against each rival with its interval, a panel a sparsity; corpus may be "pooled"."""
    tests = comparison.tests[comparison.tests["corpus"] == corpus].dropna(subset=["difference"])
    faultless = tests["relative_reduction"].isna()
    named = ", ".join(sorted(set(tests.loc[faultless, "rival"])))
    without = f"Not drawn where they made no error at all: {named}. " * bool(named)
    tests = tests[~faultless]
    order = [*_order(tests, TRAINED), *_order(tests, POST)]
    sparsities = sorted(tests["sparsity_requested"].unique())
    dagger = "† post-training. " * any(kind == POST for _, kind in order)
    picture = _figure(
        max(6.0, 1.2 + 2.5 * len(sparsities)), 1.6 + 0.27 * len(order), _LEAD_CAPTION + without + dagger + _drawn(tests)
    )
    look_of = styles([rival for rival, _ in order], comparison.proposed)
    panels = picture.subplots(1, len(sparsities), sharex=True, sharey=True, squeeze=False)[0]
    for axes, sparsity in zip(panels, sparsities, strict=True):
        _draw_lead(axes, tests[tests["sparsity_requested"] == sparsity], order, look_of)
        axes.set_title(f"{100 * sparsity:g} % sparsity", fontsize=10)
        axes.set_xlabel("WER reduction (%)")
    names = [f"{rival} †" if kind == POST else rival for rival, kind in order]
    panels[0].set_yticks(range(len(order)), names)
    panels[0].set_ylim(len(order) - 0.5, -0.5)
    panels[0].set_xlim(*_lead_limits(tests))
    title = "all corpora together" if corpus == POOLED else corpus
    picture.suptitle(f"{title}: {comparison.proposed} against each rival", fontsize=12)
    return picture


_SPARSITY_CAPTION = (
    "Bars: 95 % bootstrap interval over speakers and training seeds; faint dots: seeds, where each was run on every "
    "fold. Methods share the test speech: where bars overlap, the paired tests may still tell them apart. Settings "
    "chosen on dev. "
)
_UNTRAINED = " Post-training methods do not train: drawn at the seconds their pruning takes."
_LEAD_CAPTION = (
    f"Bars: 95 % interval of the paired bootstrap. Filled: p < {LEVEL:g} by the bootstrap and by MAPSSWE, each "
    "Holm-corrected over the rivals of a panel and kind. "
)


def _shifts(methods: pd.Series, proposed: str) -> dict[str, float]:
    """Offsets by method, so that bars do not hide each other; the proposed method is in the middle."""
    rivals = sorted(set(methods) - {proposed})
    beside = [(number // 2 + 1) * (-1) ** number for number in range(len(rivals))]
    return {proposed: 0.0} | {rival: 0.03 * place for rival, place in zip(rivals, beside, strict=True)}


def _draw_sparsity(axes: Axes, cells: pd.DataFrame, dots: pd.DataFrame, proposed: str) -> None:
    x = axis("sparsity")
    look_of = styles(sorted(cells["method"].unique()), proposed)
    shifts = _shifts(cells.dropna(subset=["wer"])["method"], proposed)
    ends = []
    for method, part in cells.dropna(subset=["wer"]).sort_values("sparsity_requested").groupby("method"):
        style, front = look_of[str(method)], str(method) in (proposed, f"{proposed}_post")
        across, up = x.place(part["sparsity_requested"]) + shifts[str(method)], 100 * part["wer"].to_numpy()
        bars = 100 * np.abs([part["wer"] - part["wer_low"], part["wer_high"] - part["wer"]])
        look: dict[str, Any] = {"color": style.colour, "zorder": 6 if front else 4}
        axes.plot(across, up, marker=style.marker, markersize=7 if front else 5, lw=2.6 if front else 1.1, **look)
        axes.errorbar(
            across,
            up,
            yerr=bars,
            fmt="none",
            elinewidth=1.4 if front else 0.7,
            alpha=0.3 if style.colour == _GREY else 0.55,
            **look,
        )
        own = dots[dots["method"] == method]
        places = x.place(own["sparsity_requested"]) + shifts[str(method)]
        axes.scatter(places, 100 * own["wer"], s=7, color=style.colour, alpha=0.35, linewidths=0, zorder=3)
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
    _label(axes, ends)
    x.dress(axes.xaxis, cells["sparsity_requested"].to_numpy(dtype=float))
    _tidy(axes)


def _draw_lead(axes: Axes, tests: pd.DataFrame, order: Sequence[tuple[str, str]], look_of: dict[str, Look]) -> None:
    places = {rival: place for place, (rival, _) in enumerate(order)}
    axes.axvline(0, color="0.4", linewidth=0.9)
    for row in tests.to_dict("records"):
        place, colour, rate = places[row["rival"]], look_of[row["rival"]].colour, 100 / row["rival_wer"]
        sure = max(row["p_bootstrap_holm"], row["p_mapsswe_holm"]) < LEVEL
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


def styles(methods: Iterable[str], proposed: str) -> dict[str, Look]:
    """Colours for the proposed method and the rivals a claim is made against; greys for the rest.

    Fourteen hues are more than an eye can tell apart, colour-blind or not.
    """
    plain = {str(method): str(method).removesuffix("_post") for method in methods}
    given = looks(plain.values())
    result = {}
    for method, name in plain.items():
        family = proposed if name == proposed else main_name(name)
        colour = looks([family])[family].colour if family else _GREY
        result[method] = Look(colour, given[name].marker)
    return result


def _scale_wer(axes: Axes, percent: pd.Series, top: float) -> None:
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


def _label(axes: Axes, ends: Sequence[tuple[float, float, str, Look]], gap: float = 0.034) -> None:
    """Write names at the right edge beside where things end, pushed apart so that none covers another."""
    to_axes = axes.transAxes.inverted()
    heights = [to_axes.transform(axes.transData.transform((x, y)))[1] for x, y, _, _ in ends]
    placed = _apart(heights, gap)
    for (x, y, name, look), height in zip(ends, placed, strict=True):
        axes.annotate(
            name,
            (x, y),
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8.5,
            color="0.3" if look.colour == _GREY else look.colour,
            arrowprops={
                "arrowstyle": "-",
                "color": look.colour,
                "linewidth": 0.5,
                "alpha": 0.6,
                "shrinkB": 4,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )


def _apart(heights: Sequence[float], gap: float) -> list[float]:
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


def _figure(width: float, height: float, caption: str) -> Figure:
    """A figure with a caption below, kept clear of the axes."""
    lines = textwrap.wrap(caption, int(width * 18))
    below = 0.1 + 0.15 * len(lines)
    picture = Figure(figsize=(width, height + below), layout="constrained")
    FigureCanvasAgg(picture)
    picture.get_layout_engine().set(rect=(0, below / (height + below), 1, 1 - below / (height + below)))  # type: ignore[union-attr, call-arg]
    picture.text(0.5, 0.06 / (height + below), "\n".join(lines), ha="center", va="bottom", fontsize=7.5, color="0.35")
    return picture


def _drawn(table: pd.DataFrame) -> str:
    drawn = sorted(set(table["drawn"].dropna()) - {""})
    return f"Drawn: {'; '.join(drawn)}." if drawn else ""


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
