"""`cspbench report`: everything a study has to show, written into its folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cspbench.report.display import display_notes
from cspbench.report.figures import PANELS, SIZE_PANEL, figures, save
from cspbench.report.links import RunLinks
from cspbench.report.page import NOTES, command, heading, html_page, markdown_table
from cspbench.report.page_data import layer_table, shown_cells
from cspbench.report.results import load_results
from cspbench.report.table import PLACE, fronts, select_on_dev, summary
from cspbench.report.trial_figure import layer_figure
from cspbench.store import Store, write_atomic
from cspbench.trials.records import ResultsError


def write_report(name: str, store: Store, links: RunLinks | None = None) -> list[Path]:
    """Write the report of a study into ``<study>/report``; what was there of an earlier one is replaced.

    Written are, for each corpus and schema version of the study, WER over sparsity, latency and size, latency over
    sparsity, an ``overview`` of three of them and the sparsity of ``layers``, as PNG, SVG and PDF; ``results.csv``
    (one row a trial), ``summary.csv`` and ``summary.md`` (method by sparsity), ``pareto.csv`` (rows of the summary on
    a front, with a column a front), and ``report.html``, a page with all of it, in one file.

    Args:
        name: the study.
        store: where it lies.
        links: MLflow runs that the page opens on a click; None for none.

    Returns:
        The files written; ``report.html`` is last.

    Raises:
        ResultsError: no such study, or none of its trials has finished.
    """
    frame = load_results(name, store.root)
    done = frame[frame["state"] == "complete"]
    if done.empty:
        raise ResultsError(f"study '{name}' has no finished trial to report: {_why_none(frame)}")
    folder = store.study(name).report
    pictures = _write_pictures(name, frame, store, folder)
    table = summary(frame)
    texts = {
        "results.csv": frame.to_csv(index=False),
        "summary.csv": table.to_csv(index=False),
        "pareto.csv": fronts(table).to_csv(index=False),
        "summary.md": _markdown(name, store, frame, table),
        "report.html": html_page(name, store, frame, table, links),
    }
    for file, text in texts.items():
        write_atomic(folder / file, text)
    return [*pictures, *(folder / file for file in texts)]


def _why_none(frame: pd.DataFrame) -> str:
    states = ", ".join(f"{count} {state}" for state, count in frame["state"].value_counts().items())
    errors = frame["error"].dropna()
    return (states or "it has no trials") + (f"; the first error was: {errors.iloc[0]}" if len(errors) else "")


def _write_pictures(name: str, frame: pd.DataFrame, store: Store, folder: Path) -> list[Path]:
    corpora, versions = frame["corpus"].nunique() > 1, frame["schema"].nunique() > 1
    paths = []
    for (corpus, version), part in frame.groupby(PLACE):
        if not part["state"].eq("complete").any():
            continue
        ending = f"_{corpus}" * corpora + f"_schema{version}" * versions
        selections = {panel.name: [panel] for panel in (*PANELS, SIZE_PANEL)} | {"overview": list(PANELS)}
        for stem, picture in zip(selections, figures(part, selections.values(), name), strict=True):
            paths += save(picture, folder / f"{stem}{ending}", pdf=True)
        layers = layer_table(shown_cells(select_on_dev(part)), store)
        if layers.size:
            paths += save(layer_figure(layers, heading(part, name)), folder / f"layers{ending}", pdf=True)
    return paths


def _markdown(name: str, store: Store, frame: pd.DataFrame, table: pd.DataFrame) -> str:
    notes = "".join(f"- {note}\n" for note in (*display_notes(table), *NOTES))
    return f"# {heading(frame, name)}\n\n{markdown_table(table)}\n\n{notes}\nMade by `{command(name, store)}`.\n"
