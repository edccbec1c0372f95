"""A comparison in the few lines that a terminal has room for; its folder holds the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd


def cell_tables(cells: pd.DataFrame) -> dict[str, list[dict[str, str]]]:
    """Rows to print by corpus: a method's WER (%) at each sparsity; a cell that lacks trials says how many it has."""
    tables: dict[str, dict[str, dict[str, str]]] = {}
    shares = sorted(cells["sparsity_requested"].unique())
    for cell in _records(cells):
        blank = {"method": cell["method"], **{_percent(share): "" for share in shares}}
        row = tables.setdefault(cell["corpus"], {}).setdefault(cell["method"], blank)
        count = f" ({cell['trials']}/{cell['trials'] + cell['missing']})" if cell["missing"] else ""
        row[_percent(cell["sparsity_requested"])] = (f"{100 * cell['wer']:.2f}" if cell["trials"] else "-") + count
    return {corpus: list(rows.values()) for corpus, rows in tables.items()}


def verdict_lines(verdicts: pd.DataFrame) -> Iterator[str]:
    """A line for each verdict there is, and one for those that lack trials."""
    missing = 0
    for row in _records(verdicts):
        if row["verdict"] == "missing":
            missing += 1
            continue
        text = (
            f"{row['corpus']}, {row['kind']}, {_percent(row['sparsity_requested'])}: "
            f"{row['proposed']} {100 * row['proposed_wer']:.2f}, {row['best_rival']} (best of {row['against']}) "
            f"{100 * row['rival_wer']:.2f}: {row['verdict']}, {100 * row['relative_reduction']:+.1f} % reduction"
        )
        yield text + (f"; {row['note']}" if row["note"] else "")
    if missing:
        yield f"{missing} verdicts wait for trials that have not run"


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
