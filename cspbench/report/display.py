"""A summary worded for people: columns with units in their headings, and marks."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from typing import Any

import pandas as pd

from cspbench.report.columns import Column, rows_of
from cspbench.report.pareto import violates
from cspbench.report.table import FRONTS, fronts
from cspbench.units import Unit, size_unit, time_unit

LETTERS = {"wer_vs_sparsity": "S", "wer_vs_latency": "L", "wer_vs_size": "B"}
"""Marks of the Pareto fronts."""

FRONT_NOTE = "front: Pareto fronts of test WER and sparsity (S), latency (L), bytes (B)"
VIOLATED_NOTE = "violates: constraints that no setting of the row meets; such rows are on no front"
LONGEST_ERROR = 60
"""Characters of an error in a list of trials."""

NOISY = "~"
NOISY_NOTE = "~: latency too noisy to believe"

Row = dict[Any, Any]
Cell = Callable[[Row], str]
Described = tuple[str, int, Cell, bool]
"""Heading, rank, cell of a row, and whether it is aligned to the right."""


def display_columns(table: pd.DataFrame) -> list[Column]:
    """Word a `summary` for people, units in the headings; "–" where there is no number.

    Corpus, schema version, control, violated constraints, seeds, int8 and hyperparameters have a column only where they
    say something. The rank of a column says which are dropped first where there is no room for all.
    """
    rows = table.to_dict("records")
    time = time_unit([*table["latency_ms"].dropna(), *table["int8_latency_ms"].dropna()])
    size = size_unit(table["size_bytes"].dropna())
    cells = [*_of_setting(), *_of_errors(table), *_of_size(size), *_of_time(table, time)]
    columns = [Column(heading, tuple(map(cell, rows)), rank, right) for heading, rank, cell, right in cells]
    columns.append(Column("front", _front_marks(table), 5, right=False))
    notes: list[tuple[str, int, Cell, bool]] = [
        ("violates", 1, _text("violated"), False),
        ("seeds", 8, _text("seeds"), True),
        ("chosen on dev", 9, _text("params"), False),
        ("formats timed", 18, _text("formats"), False),
    ]
    columns += [Column(heading, tuple(map(cell, rows)), rank, right) for heading, rank, cell, right in notes]
    silent = {
        "corpus": table["corpus"].nunique() <= 1,
        "schema": table["schema"].nunique() <= 1,
        "violates": not violates(table).any(),
        "seeds": not (table["seeds"] > 1).any(),
        "chosen on dev": not (table["params"] != "").any(),
    }
    return [column for column in columns if not silent.get(column.heading, False)]


def trial_columns(frame: pd.DataFrame) -> list[Column]:
    """Word trials for people, one a row, best dev WER first; those that have not finished are last.

    Args:
        frame: as from `load_results`.
    """
    rows = frame.sort_values("dev_wer", kind="stable").assign(failed=frame["state"] == "failed").to_dict("records")
    time, size = time_unit(frame["latency_ms"].dropna()), size_unit(frame["size_bytes"].dropna())
    described: list[Described] = [
        ("trial", 0, _text("trial_id"), False),
        ("corpus", 7, _text("corpus"), False),
        *_of_setting()[2:4],
        ("seed", 4, _text("seed"), True),
        ("state", 6, _text("state"), False),
        ("dev WER %", 1, _number("dev_wer", ".1f", 100), True),
        ("test WER %", 2, _wer, True),
        (f"size {size.name}", 2, _number("size_bytes", f".{size.digits}f", size.factor), True),
        (f"latency {time.name}", 3, _timed(_number("latency_ms", f".{time.digits}f", time.factor)), True),
        ("speed-up", 5, _timed(_number("speedup", ".2f", 1, "×")), True),
        ("error", 3, _error, False),
    ]
    columns = [Column(heading, tuple(map(cell, rows)), rank, right) for heading, rank, cell, right in described]
    measured = frame["dev_wer"].notna().any()
    silent = {
        **dict.fromkeys(("dev WER %", f"size {size.name}", f"latency {time.name}", "speed-up"), not measured),
        "corpus": frame["corpus"].nunique() <= 1,
        "state": frame["state"].eq("complete").all(),
        "error": frame["error"].isna().all(),
    }
    return [column for column in columns if not silent.get(column.heading, False)]


def display_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """Return `display_columns` as rows: heading -> text."""
    return rows_of(display_columns(table)) if len(table) else []


def display_notes(table: pd.DataFrame) -> list[str]:
    """Return what a reader must know to read the marks of `display_columns`."""
    noisy = bool((table["latency_conclusive"] == 0).any())
    return [FRONT_NOTE, *([VIOLATED_NOTE] if violates(table).any() else []), *([NOISY_NOTE] if noisy else [])]


def _of_setting() -> list[Described]:
    return [
        ("corpus", 0, _text("corpus"), False),
        ("schema", 0, _text("schema"), True),
        ("method", 0, _text("method"), False),
        ("sparsity", 0, _number("sparsity_requested", ".4g", 100, " %"), True),
        ("achieved %", 17, _number("sparsity", ".2f", 100), True),
    ]


def _of_errors(table: pd.DataFrame) -> list[Described]:
    found: list[Described] = [
        ("test WER %", 1, _wer, True),
        ("vs dense", 2, _number("wer_change", "+.0f", 100, " %"), True),
    ]
    if table["control_change"].notna().any():
        found.append(("vs control", 10, _number("control_change", "+.0f", 100, " %"), True))
    return found


def _of_size(size: Unit) -> list[Described]:
    spec = f".{size.digits}f"
    return [
        (f"size {size.name}", 3, _number("size_bytes", spec, size.factor), True),
        ("compression", 7, _number("compression", ".1f", 1, "×"), True),
        (f"smallest {size.name}", 13, _number("smallest_bytes", spec, size.factor), True),
    ]


def _of_time(table: pd.DataFrame, time: Unit) -> list[Described]:
    spec = f".{time.digits}f"
    found: list[Described] = [
        (f"latency {time.name}", 4, _timed(_number("latency_ms", spec, time.factor)), True),
        ("speed-up", 6, _timed(_number("speedup", ".2f", 1, "×")), True),
        (f"p95 {time.name}", 15, _timed(_number("latency_p95_ms", spec, time.factor)), True),
        ("real time", 14, _timed(_real_time), True),
    ]
    if table["int8_wer"].notna().any():
        found.append((f"int8 {time.name}", 12, _timed(_number("int8_latency_ms", spec, time.factor)), True))
        found.append(("int8 WER %", 11, _number("int8_wer", ".1f", 100), True))
    return found


def _front_marks(table: pd.DataFrame) -> tuple[str, ...]:
    on = fronts(table)[list(FRONTS)]
    marks = {index: "".join(LETTERS[name] for name in FRONTS if row[name]) for index, row in on.iterrows()}
    return tuple(marks.get(index, "") for index in table.index)


def _text(name: str) -> Cell:
    return lambda row: str(row[name])


def _number(name: str, spec: str, factor: float = 1.0, unit: str = "") -> Cell:
    return lambda row: _worded(row[name] * factor, spec, unit)


def _timed(cell: Cell) -> Cell:
    """Mark a cell in rows whose latency is too noisy to believe."""
    return lambda row: NOISY * (row["latency_conclusive"] == 0 and cell(row) != "–") + cell(row)


def _error(row: Row) -> str:
    return textwrap.shorten(row["error"] or "", LONGEST_ERROR, placeholder=" ...") if row["state"] != "complete" else ""


def _real_time(row: Row) -> str:
    return _worded(1 / row["rtf"] if row["rtf"] else math.nan, ".0f", "×")


def _worded(value: float, spec: str, unit: str) -> str:
    return "–" if pd.isna(value) else f"{value:{spec}}{unit}"


def _wer(row: Row) -> str:
    if pd.isna(row["test_wer"]):
        return "failed" if row["failed"] else "–"
    return f"{100 * row['test_wer']:.1f} [{100 * row['test_wer_low']:.1f}, {100 * row['test_wer_high']:.1f}]"
