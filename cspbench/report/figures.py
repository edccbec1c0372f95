"""The three pictures of a study: WER over sparsity, WER over latency, latency over sparsity.

Drawn on `Axes` that may be yours (a notebook) or on a `Figure` of our own; pyplot and its global state are not used.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from cspbench.report.axes import Floats, axis
from cspbench.report.display import NOISY, NOISY_NOTE
from cspbench.report.pareto import on_front, violates
from cspbench.report.table import DENSE, FRONTS, PLACE, select_on_dev, summary
from cspbench.store import atomic_file

# Okabe and Ito's palette without yellow and black, continued from Tol's muted one: safe for colour blindness.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#332288", "#999933", "#882255")
_MARKERS = "osD^vPXp<>hd"
_FIRST = ("csp", "magnitude", "movement", "lottery")
"""Methods with a look of their own in every figure of every study; others take what follows, by name."""
_JOINED = 8
"""A method with more cells than this was searched over sparsity: a line through them would be noise."""

_CROWD = 500
"""Marks of a method beyond which SVG and PDF hold an image of them: as shapes they take longer to write than to see."""


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        name: of its files.
        x: quantity across, a column of `summary`.
        y: quantity upwards.
        front: the two quantities whose Pareto front is ringed. Latency and sparsity are no trade-off (both gain
            together), so their picture shows where the front of WER and latency lies.
    """

    name: str
    x: str
    y: str
    front: tuple[str, str]

    @property
    def title(self) -> str:
        """Names of the two quantities."""
        return f"{axis(self.y).name} vs {axis(self.x).name}"


PANELS = (
    Panel("wer_vs_sparsity", "sparsity", "test_wer", FRONTS["wer_vs_sparsity"]),
    Panel("wer_vs_latency", "latency_ms", "test_wer", FRONTS["wer_vs_latency"]),
    Panel("latency_vs_sparsity", "sparsity", "latency_ms", FRONTS["wer_vs_latency"]),
)
"""The panels of the overview."""

SIZE_PANEL = Panel("wer_vs_size", "size_bytes", "test_wer", FRONTS["wer_vs_size"])


@dataclass(frozen=True)
class Look:
    """Colour and marker of a method."""

    colour: str
    marker: str


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """Give each method a colour and a marker; the usual methods always have the same ones."""
    others = sorted(set(methods) - set(_FIRST))
    return {
        method: Look(_COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)])
        for i, method in enumerate((*_FIRST, *others))
    }


@dataclass(frozen=True)
class _Shown:
    """Data of the figures of one corpus: a dot a trial of the chosen settings, a mark a row of their summary."""

    points: pd.DataFrame
    cells: pd.DataFrame

    @classmethod
    def of(cls, frame: pd.DataFrame) -> _Shown:
        if len(places := frame[PLACE].drop_duplicates()) > 1:
            raise ValueError(f"one corpus and schema version a picture, got {places.to_numpy().tolist()}")
        return cls(select_on_dev(frame), summary(frame))

    @property
    def seeds(self) -> bool:
        return bool((self.cells.loc[self.cells["method"] != DENSE, "seeds"] > 1).any())


def draw(axes: Axes, frame: pd.DataFrame, panel: Panel) -> None:
    """Draw one panel of one corpus.

    Args:
        axes: where to draw.
        frame: as from `load_results`, trials of one corpus and schema version; settings are chosen on dev here.
        panel: one of `PANELS`.

    Raises:
        ValueError: trials of several corpora or schema versions, which no axis can compare.
    """
    _draw(axes, _Shown.of(frame), panel)


def _draw(axes: Axes, shown: _Shown, panel: Panel) -> None:
    points, cells = shown.points, shown.cells.dropna(subset=[panel.x, panel.y])
    x, y = axis(panel.x), axis(panel.y)
    _draw_dense(axes, cells, panel)
    methods = [method for method in cells["method"].unique() if method != DENSE]
    shifts = (np.arange(len(methods)) - (len(methods) - 1) / 2) * x.dodge
    style = looks(methods)
    for method, shift in zip(methods, shifts, strict=True):
        own = points[points["method"] == method]
        if shown.seeds:
            axes.scatter(
                x.place(own[panel.x]) + shift,
                y.place(own[panel.y]),
                s=14,
                color=style[method].colour,
                alpha=0.5,
                linewidths=0,
                zorder=3,
            )
        _draw_method(axes, cells[cells["method"] == method], panel, style[method], float(shift))
    _draw_front(axes, cells, panel, dict(zip(methods, shifts, strict=True)))
    x.dress(axes.xaxis, np.concatenate([cells[panel.x], points[panel.x]]))
    y.dress(axes.yaxis, np.concatenate([cells[panel.y], points[panel.y]]))
    axes.set_title(panel.title, fontsize=10)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def figure(frame: pd.DataFrame, panels: Sequence[Panel] = PANELS, title: str = "") -> Figure:
    """Draw panels side by side, with one legend and a caption that says what is shown.

    Args:
        frame: as from `load_results`, trials of one corpus with at least one finished.
        panels: which pictures.
        title: of the whole; the corpus, and whether its speech is synthetic, is added.
    """
    return next(figures(frame, [panels], title))


def figures(frame: pd.DataFrame, selections: Iterable[Sequence[Panel]], title: str = "") -> Iterator[Figure]:
    """Draw several figures of the same trials, see `figure`.

    Args:
        frame: as from `load_results`, trials of one corpus with at least one finished.
        selections: panels of each figure.
        title: of each.
    """
    shown = _Shown.of(frame)
    for panels in selections:
        yield _figure(frame, shown, panels, title)


def _figure(frame: pd.DataFrame, shown: _Shown, panels: Sequence[Panel], title: str) -> Figure:
    wide = len(panels) > 1
    handles = legend_handles(frame)
    columns = min(len(handles), 10 if wide else 4)
    rows = -(-len(handles) // columns)
    caption = textwrap.wrap(_caption(shown, panels), 165 if wide else 100)
    # What stands below the axes is placed by hand: constrained layout lets an outside legend and a caption overlap.
    width, below = (4.6 * len(panels) if wide else 6.4), 0.1 + 0.22 * rows + 0.15 * len(caption)
    height = 4.2 + below
    layout = ConstrainedLayoutEngine(rect=(0, below / height, 1, 1 - below / height), w_pad=0.1)
    picture = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(picture)
    for axes, panel in zip(np.atleast_1d(picture.subplots(1, len(panels))), panels, strict=True):
        _draw(axes, shown, panel)
    picture.suptitle(heading(frame, title), fontsize=12)
    legend = picture.legend(handles=handles, loc="upper center", ncols=columns, frameon=False, fontsize=9)
    legend.set_bbox_to_anchor((0.5, below / height))
    picture.text(0.5, 0.06 / height, "\n".join(caption), ha="center", va="bottom", fontsize=7.5, color="0.35")
    return picture


def save(picture: Figure, stem: Path, pdf: bool = False) -> list[Path]:
    """Write a figure as ``<stem>.png`` (150 dpi) and ``<stem>.svg``; equal figures give equal files.

    Args:
        picture: the figure.
        stem: path without the ending.
        pdf: write ``<stem>.pdf`` as well, whose text is text, in embedded TrueType fonts as publishers ask for.
    """
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg", *(["pdf"] if pdf else []))]
    with mpl.rc_context({"svg.hashsalt": "cspbench", "pdf.fonttype": 42}):
        with atomic_file(paths[0]) as file:
            picture.savefig(file, format="png", dpi=150, metadata={"Software": "cspbench"})
        picture.set_layout_engine("none")  # laid out by now: both files the same way, and in half the time
        with atomic_file(paths[1]) as file:
            picture.savefig(file, format="svg", dpi=150, metadata={"Date": None, "Creator": "cspbench"})
        for path in paths[2:]:
            with atomic_file(path) as file:
                picture.savefig(file, format="pdf", dpi=150, metadata={"CreationDate": None, "Creator": "cspbench"})
    return paths


def heading(frame: pd.DataFrame, title: str = "") -> str:
    """Title of a figure or page: synthetic speech is never passed off as people's."""
    corpus = ", ".join(sorted(frame["corpus"].unique()))
    synthetic = frame["synthetic"].eq(True).any()
    return ": ".join(filter(None, [title, corpus])) + (" (synthetic speech)" if synthetic else "")


def legend_handles(frame: pd.DataFrame) -> list[Line2D]:
    """Handles for the methods of a frame, the dense reference and the mark of the Pareto front."""
    methods = sorted(frame["method"].unique())
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, label=method, markersize=6)
        for method, look in looks(methods).items()
        if method in methods
    ]
    handles.append(Line2D([], [], color="0.25", linestyle="--", marker="*", label="dense", markersize=9))
    front = Line2D([], [], color="0.6", linestyle=":", marker="o", markersize=10, label="Pareto front")
    front.set_markerfacecolor("none")
    front.set_markeredgecolor("0.15")
    handles.append(front)
    return handles


def _draw_method(axes: Axes, cells: pd.DataFrame, panel: Panel, look: Look, shift: float) -> None:
    cells = cells.sort_values("sparsity_requested")
    x, y = axis(panel.x).place(cells[panel.x]) + shift, axis(panel.y).place(cells[panel.y])
    low, high = _bounds(cells, panel.y)
    few = len(cells) <= _JOINED
    # Over latency or size a line would go back and forth: there the sparsity is written beside each mark.
    joined = "-" if few and panel.x == "sparsity" else ""
    if few and panel.x != "sparsity":
        for sparsity, across, up in zip(cells["sparsity_requested"], x, y, strict=True):
            if sparsity > 0 and np.isfinite(across) and np.isfinite(up):
                axes.annotate(
                    f"{100 * sparsity:.4g}", (across, up), (5, 4), textcoords="offset points", fontsize=6.5, color="0.3"
                )
    crowd = len(cells) > _CROWD
    axes.plot(
        x,
        y,
        color=look.colour,
        marker=look.marker,
        markersize=6,
        linewidth=1.4,
        linestyle=joined,
        zorder=4,
        rasterized=crowd,
    )
    bars = np.abs([y - low, high - y])
    axes.errorbar(
        x,
        y,
        yerr=bars,
        ecolor=look.colour,
        fmt="none",
        elinewidth=0.9,
        capsize=2,
        alpha=0.6,
        zorder=3,
        rasterized=crowd,
    )
    _mark_noisy(axes, cells, panel, x, y, look.colour)
    missed = violates(cells).to_numpy()
    axes.scatter(x[missed], y[missed], s=36, marker=look.marker, facecolors="white", edgecolors=look.colour, zorder=5)


def _mark_noisy(axes: Axes, cells: pd.DataFrame, panel: Panel, x: Floats, y: Floats, colour: str) -> None:
    """Put the table's mark beside cells whose latency is shown and too noisy to believe."""
    if "latency_ms" not in (panel.x, panel.y):
        return
    for i in np.flatnonzero(cells["latency_conclusive"] == 0):
        axes.annotate(NOISY, (x[i], y[i]), (-3, 5), textcoords="offset points", ha="right", color=colour)


def _bounds(cells: pd.DataFrame, quantity: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the bars: the 95 % interval of a WER; from the median to the 95th percentile of a latency."""
    columns = {"test_wer": ("test_wer_low", "test_wer_high"), "latency_ms": ("latency_ms", "latency_p95_ms")}[quantity]
    return axis(quantity).place(cells[columns[0]]), axis(quantity).place(cells[columns[1]])


def _draw_dense(axes: Axes, cells: pd.DataFrame, panel: Panel) -> None:
    dense = cells[cells["method"] == DENSE]
    if dense.empty:
        return
    low, high = _bounds(dense, panel.y)
    level = axis(panel.y).place(dense[panel.y])[0]
    axes.axhline(level, color="0.25", linestyle="--", linewidth=1.1, zorder=2)
    axes.axhspan(low[0], high[0], color="0.25", alpha=0.08, linewidth=0, zorder=1)
    x = axis(panel.x).place(dense[panel.x])
    axes.plot(x, [level], color="0.25", marker="*", markersize=10, zorder=4)
    _mark_noisy(axes, dense, panel, x, np.full(len(x), level), "0.25")


def _draw_front(axes: Axes, cells: pd.DataFrame, panel: Panel, shifts: dict[str, float]) -> None:
    """Ring the cells on the front, and join them where the axes are those of the front."""
    x, y = axis(panel.x), axis(panel.y)
    front = cells[on_front(cells, panel.front)].sort_values(panel.x)
    shift = front["method"].map(shifts).fillna(0.0).to_numpy(dtype=float)
    across, up = x.place(front[panel.x]) + shift, y.place(front[panel.y])
    if panel.front == (panel.x, panel.y):
        axes.plot(across, up, color="0.6", linestyle=":", linewidth=1.2, zorder=2)
    axes.scatter(across, up, s=120, facecolors="none", edgecolors="0.15", linewidths=1.1, zorder=5)


def _caption(shown: _Shown, panels: Sequence[Panel]) -> str:
    quantities = {panel.x for panel in panels} | {panel.y for panel in panels}
    parts = []
    if "test_wer" in quantities:
        parts.append(
            "WER on the test set; bars and band: 95 % bootstrap interval over speakers (utterances if these are few)."
        )
    if "latency_ms" in quantities:
        text = "Latency measured on packed weights, median a model step"
        parts.append(text + ("; bars: to the 95th percentile." if any(p.y == "latency_ms" for p in panels) else "."))
    if any(panel.x != "sparsity" for panel in panels):
        parts.append("Numbers beside marks: sparsity in %.")
    if shown.seeds:
        parts.append("Dots: seeds; lines: their mean.")
    if any(panel.front != (panel.x, panel.y) for panel in panels) and len(panels) == 1:
        parts.append("Rings: Pareto front of WER and latency.")
    if "latency_ms" in quantities and shown.cells["latency_conclusive"].eq(0).any():
        parts.append(f"{NOISY_NOTE}.")
    if violates(shown.cells).any():
        parts.append("Open marks violate a constraint of the sweep.")
    parts.append("Settings chosen by dev WER.")
    return " ".join(parts)
