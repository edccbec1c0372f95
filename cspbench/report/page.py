"""The report as one HTML file that needs nothing beside it, and the table as Markdown. All text is escaped."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import pandas as pd

from cspbench.report.display import NOISY, display_notes, display_rows
from cspbench.report.figures import heading
from cspbench.report.links import RunLinks
from cspbench.report.markdown import markdown_rows
from cspbench.report.page_data import NO_RUNS, layer_table, page_data, shown_cells
from cspbench.report.page_tables import (
    Clips,
    error_blocks,
    importance_rows,
    overlap_rows,
    provenance_rows,
    significance_rows,
    sweep_file,
    within_tolerance,
)
from cspbench.report.table import CELL, select_on_dev
from cspbench.report.templating import render
from cspbench.store import Store
from cspbench.units import size_unit, time_unit
from cspbench.version import __version__

NOTES = (
    "WER is measured on the test set, corpus level: edits over reference words. Its interval is a 95 % bootstrap over "
    "test speakers, or over utterances where fewer than four are known; for several seeds WER and bounds are means.",
    "Where several settings of a method were tried at a sparsity, the one with the best dev WER is shown.",
    "Sparsity is the fraction of zeros among the prunable weights. “vs dense”: relative change of the WER to that of "
    "the dense recogniser; “vs control”: to the dense recogniser that was trained on as long, nothing pruned.",
    "Size and latency of a row are those of one packed file, whose formats are in the last column; “smallest” is "
    "another packing of the same weights, which was not timed. 1 MB is 10^6 bytes.",
    "Latency is the median time of a model step, measured beside the dense recogniser in the same process; “speed-up” "
    "is the dense median over the packed one, “real time” seconds of audio per second of work.",
)
"""Notes to the table, printed under it wherever it goes."""


def markdown_table(table: pd.DataFrame) -> str:
    """Word a `summary` as a Markdown table."""
    return markdown_rows(display_rows(table))


def html_page(name: str, store: Store, frame: pd.DataFrame, table: pd.DataFrame, links: RunLinks | None = None) -> str:
    """Assemble the page.

    Args:
        name: of the study.
        store: where it lies, for the command that makes the page again.
        frame: as from `load_results`.
        table: its `summary`.
        links: MLflow runs that marks and trial ids open when they are clicked; None for a page without web addresses.
    """
    runs = links.runs if links else NO_RUNS
    chosen = select_on_dev(frame)
    shown = shown_cells(chosen)
    layers = layer_table(shown, store)
    clips = Clips()
    return render(
        "study.html.j2",
        title=f"Study {heading(frame, name)}",
        warnings=[*_synthetic(frame), *doubts(frame)],
        counts=_counts(frame),
        data=page_data(frame, table, store, runs),
        runs=runs,
        within=within_tolerance(table),
        importances=importance_rows(frame),
        cells_left_out=_left_out(len(shown), len(chosen.drop_duplicates(CELL))),
        layer_names=list(layers.columns),
        layers=[(name, [None if pd.isna(v) else float(v) for v in row]) for name, row in layers.iterrows()],
        overlap=overlap_rows(shown, store),
        errors=list(error_blocks(shown, store, clips)),
        clips=clips.data,
        tests=significance_rows(chosen, store),
        trials=_trials(frame),
        provenance=provenance_rows(name, frame, store),
        sweep=sweep_file(name, store),
        table=display_rows(table),
        notes=(*display_notes(table), *NOTES),
        protocol=protocol_rows(frame),
        failed=_failed(frame),
        command=command(name, store, links),
        version=__version__,
    )


def command(name: str, store: Store, links: RunLinks | None = None) -> str:
    """The line that makes the report again."""
    root = "" if store.root == Path("runs").absolute() else f" --root {shlex.quote(str(store.root))}"
    server = f" --mlflow {shlex.quote(links.server)}" if links else ""
    return f"cspbench report {shlex.quote(name)}{root}{server}"


def protocol_rows(frame: pd.DataFrame) -> list[dict[str, str]]:
    """Latency protocol, one row a property; trials that were measured differently show as several values."""
    rows = []
    for column in (c for c in frame.columns if c.startswith("protocol.")):
        values = sorted({str(value) for value in frame[column].dropna()})
        rows.append({"property": column.removeprefix("protocol.").replace("_", " "), "value": ", ".join(values)})
    return rows


def _counts(frame: pd.DataFrame) -> str:
    states = frame["state"].value_counts()
    return "Trials: " + ", ".join(f"{count} {state}" for state, count in states.items()) + "."


def _synthetic(frame: pd.DataFrame) -> list[str]:
    if not frame["synthetic"].eq(True).any():
        return []
    return ["The speech of this study is synthetic: it was made by a machine, not recorded from people."]


def doubts(frame: pd.DataFrame) -> list[str]:
    """Return the reasons not to compare the trials of a study with each other, in words."""
    found = []
    if frame["schema"].nunique() > 1:
        versions = " and ".join(str(version) for version in sorted(frame["schema"].unique()))
        found.append(f"Trials of schema versions {versions} are shown apart: equal settings may come out differently.")
    for column in ("protocol.packed", "protocol.processor"):
        kinds = sorted(set(frame[column].dropna())) if column in frame else []
        if len(kinds) > 1:
            found.append(f"Latencies cannot be compared throughout: they were measured on {' and '.join(kinds)}.")
    noisy, told = int((frame["latency_conclusive"] == 0).sum()), int(frame["latency_conclusive"].notna().sum())
    if noisy:
        found.append(
            f"The machine was too noisy to tell the latency of {noisy} of {told} trials, marked {NOISY}; the trial's "
            "result says why."
        )
    return found


def _failed(frame: pd.DataFrame) -> list[dict[str, str]]:
    return [
        {
            "trial": str(row["trial_id"]),
            "method": str(row["method"]),
            "sparsity %": f"{100 * row['sparsity_requested']:.4g}",
            "state": str(row["state"]),
            "error": str(row["error"]).strip().splitlines()[-1] if str(row["error"]).strip() else "",
        }
        for row in frame[frame["error"].notna()].to_dict("records")
    ]


def _left_out(shown: int, cells: int) -> str:
    if shown == cells:
        return ""
    return (
        f"Layers, training and errors below are those of {shown} of {cells} cells, spread evenly over the sparsities."
    )


def _trials(frame: pd.DataFrame) -> list[dict[str, str]]:
    """One row a finished trial."""
    done = frame[frame["state"] == "complete"]
    time, size = time_unit(done["latency_ms"].dropna()), size_unit(done["size_bytes"].dropna())
    params = [column for column in frame.columns if column.startswith("params.")]

    def number(value: float, spec: str) -> str:
        return "–" if pd.isna(value) else format(value, spec)

    return [
        {
            "method": str(row["method"]),
            "sparsity %": f"{100 * row['sparsity_requested']:.4g}",
            "seed": str(row["seed"]),
            "test WER %": number(100 * row["test_wer"], ".2f"),
            "dev WER %": number(100 * row["dev_wer"], ".2f"),
            f"size {size.name}": number(row["size_bytes"] * size.factor, f".{size.digits}f"),
            f"latency {time.name}": number(row["latency_ms"] * time.factor, f".{time.digits}f"),
            "hyperparameters": ", ".join(f"{c[7:]}={row[c]}" for c in params if not _absent(row[c])),
            "trial": str(row["trial_id"]),
        }
        for row in done.to_dict("records")
    ]


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
