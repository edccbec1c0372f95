"""`cspbench report`: everything a study has to show, written into its folder."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cspbench.report.display import display_notes
from cspbench.report.figures import PANELS, figure, save
from cspbench.report.page import NOTES, command, heading, html_page, markdown_table
from cspbench.report.results import load_results
from cspbench.report.table import PLACE, fronts, summary
from cspbench.store import Store, write_atomic
from cspbench.trials.records import ResultsError


def write_report(name: str, store: Store) -> list[Path]:
    """Write the report of a study into ``<study>/report``; what was there of an earlier one is replaced.

    Written are, for each corpus and schema version of the study, the three pictures and ``overview`` (all three side
    by side), as PNG and SVG; ``results.csv`` (one row a trial), ``summary.csv`` and ``summary.md`` (method by
    sparsity), ``pareto.csv`` (rows of the summary on a front, with a column a front), and ``report.html``, which holds
    all of it in one file.

    Args:
        name: the study.
        store: where it lies.

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
    pictures = _write_pictures(name, frame, folder)
    table = summary(frame)
    embedded = [path for path in pictures if path.suffix == ".svg" and not path.name.startswith("overview")]
    texts = {
        "results.csv": frame.to_csv(index=False),
        "summary.csv": table.to_csv(index=False),
        "pareto.csv": fronts(table).to_csv(index=False),
        "summary.md": _markdown(name, store, frame, table),
        "report.html": html_page(name, store, frame, table, embedded),
    }
    for file, text in texts.items():
        write_atomic(folder / file, text)
    return [*pictures, *(folder / file for file in texts)]


def _why_none(frame: pd.DataFrame) -> str:
    states = ", ".join(f"{count} {state}" for state, count in frame["state"].value_counts().items())
    errors = frame["error"].dropna()
    return (states or "it has no trials") + (f"; the first error was: {errors.iloc[0]}" if len(errors) else "")


def _write_pictures(name: str, frame: pd.DataFrame, folder: Path) -> list[Path]:
    corpora, versions = frame["corpus"].nunique() > 1, frame["schema"].nunique() > 1
    paths = []
    for (corpus, version), part in frame.groupby(PLACE):
        if not part["state"].eq("complete").any():
            continue
        ending = f"_{corpus}" * corpora + f"_schema{version}" * versions
        for panel in PANELS:
            paths += save(figure(part, [panel], name), folder / f"{panel.name}{ending}")
        paths += save(figure(part, PANELS, name), folder / f"overview{ending}")
    return paths


def _markdown(name: str, store: Store, frame: pd.DataFrame, table: pd.DataFrame) -> str:
    notes = "".join(f"- {note}\n" for note in (*display_notes(table), *NOTES))
    return f"# {heading(frame, name)}\n\n{markdown_table(table)}\n{notes}\nMade by `{command(name, store)}`.\n"
