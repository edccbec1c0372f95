"""Summary of a comparison in the few lines that a terminal has room for; its folder holds the rest."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from cspbench.comparison.report.evaluate import Evaluation, records


def cell_tables(evaluation: Evaluation) -> dict[str, list[dict[str, str]]]:
    """Rows to print by corpus and budget: a method's test WER (%) at each sparsity.

    A cell that lacks trials says how many it has. The budget is named where there are several.
    """
    tables: dict[str, dict[str, dict[str, str]]] = {}
    cells = evaluation.cells
    several = cells["budget"].nunique() > 1
    for (corpus, budget), own in cells.groupby(["corpus", "budget"], sort=True):
        name = evaluation.named(str(corpus))
        rows = tables.setdefault(f"{name}, budget {budget:g}" if several else name, {})
        sparsities = sorted(own["sparsity_requested"].unique())
        for cell in records(own):
            blank = {"method": cell["method"], **{_percent(sparsity): "" for sparsity in sparsities}}
            row = rows.setdefault(cell["method"], blank)
            count = f" ({cell['trials']}/{cell['trials'] + cell['missing']})" if cell["missing"] else ""
            wer = f"{100 * cell['test_wer']:.2f}" if cell["trials"] else "-"
            row[_percent(cell["sparsity_requested"])] = wer + count
    return {title: list(rows.values()) for title, rows in tables.items()}


def verdict_lines(verdicts: pd.DataFrame) -> Iterator[str]:
    """A line for each verdict there is, and one for those that lack trials."""
    missing = 0
    several = verdicts["budget"].nunique() > 1
    for row in records(verdicts):
        if row["verdict"] == "missing":
            missing += 1
            continue
        text = (
            f"{row['corpus']}, {row['kind']}, {_percent(row['sparsity_requested'])}"
            f"{', budget ' + format(row['budget'], 'g') if several else ''}: "
            f"{row['proposed']} {100 * row['proposed_wer']:.2f}, best rival {row['best_rival']} "
            f"{100 * row['rival_wer']:.2f}: {row['verdict']}, {100 * row['relative_reduction']:+.1f} % reduction"
        )
        yield text + (f"; {row['note']}" if row["note"] else "")
    if missing:
        yield f"{missing} verdicts wait for trials that have not run"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.4g} %"
