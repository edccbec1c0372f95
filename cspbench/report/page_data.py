"""Numbers behind the figures of the page, as JSON for its script."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pandas as pd

from cspbench.report.figures import looks
from cspbench.report.pareto import on_front
from cspbench.report.search import hypervolumes, responses
from cspbench.report.table import CELL, DENSE, FRONTS, PLACE, select_on_dev
from cspbench.store import Store
from cspbench.trials.records import read_result, rows_of

MOST_CELLS = 36
"""Cells whose layers, curves and errors the page shows; of more, evenly spread sparsities of each method."""

NO_RUNS: Mapping[str, str] = MappingProxyType({})
"""Addresses of runs where the page does not link to MLflow."""

_CURVE_POINTS = 60

_CELL = {
    "method": "method",
    "asked": "sparsity_requested",
    "sparsity": "sparsity",
    "wer": "test_wer",
    "low": "test_wer_low",
    "high": "test_wer_high",
    "change": "wer_change",
    "latency": "latency_ms",
    "size": "size_bytes",
    "seeds": "seeds",
    "params": "params",
    "violated": "violated",
    "quiet": "latency_conclusive",
}
"""Names in the script, and columns of a `summary`."""

_TRIAL = ("method", "sparsity", "latency", "size", "wer", "low", "high")
"""Those of them that a single trial has."""


def page_data(
    frame: pd.DataFrame, table: pd.DataFrame, store: Store, runs: Mapping[str, str] = NO_RUNS
) -> dict[str, Any]:
    """Return what the script of the page draws: cells, trials and curves of each corpus and schema version.

    Args:
        frame: as from `load_results`, with a finished trial.
        table: its `summary`.
        store: holds its trials.
        runs: address of the MLflow run of each trial, by trial id. A cell gets that of its first trial.
    """
    places = []
    several = frame[PLACE].drop_duplicates().shape[0] > 1
    for (corpus, schema), part in frame.groupby(PLACE):
        if not part["state"].eq("complete").any():
            continue
        own = table[(table["corpus"] == corpus) & (table["schema"] == schema)]
        cells = own.dropna(subset=["test_wer"])
        chosen = select_on_dev(part)
        others = part[(part["state"] == "complete") & ~part["trial_id"].isin(chosen["trial_id"])]
        places.append(
            {
                "name": f"{corpus}, schema version {schema}" if several else "",
                "cells": list(_cells(cells, chosen, runs)),
                "trials": [_clean({name: row[_CELL[name]] for name in _TRIAL}) for row in others.to_dict("records")],
                "curves": list(_curves(shown_cells(chosen), store, runs)),
                "search": _search(part[part["state"] == "complete"]),
                "responses": responses(part[part["state"] == "complete"]),
            }
        )
    style = looks(frame["method"])
    methods = [m for m in style if m in set(frame["method"])]
    return {"places": places, "looks": {m: [style[m].colour, style[m].marker] for m in methods}}


def shown_cells(trials: pd.DataFrame) -> pd.DataFrame:
    """Return one trial, the first, of each cell, or of evenly spread ones where there are more than `MOST_CELLS`.

    Args:
        trials: finished trials of the chosen settings, as from `select_on_dev`.
    """
    first = trials.drop_duplicates(CELL).sort_values(CELL, kind="stable")
    if len(first) <= MOST_CELLS:
        return first
    room = max(2, MOST_CELLS // first["method"].nunique())
    parts = []
    for _, own in first.groupby("method"):
        places = {round(i * (len(own) - 1) / (room - 1)) for i in range(room)}
        parts.append(own.iloc[sorted(places)])
    return pd.concat(parts)


def layer_table(trials: pd.DataFrame, store: Store) -> pd.DataFrame:
    """Return the fraction of zeros by layer, a column a cell.

    Args:
        trials: as from `shown_cells`.
        store: holds them.
    """
    columns = {
        cell_name(row): read_result(store.trial(str(row["trial_id"]))).layer_sparsity
        for row in trials[trials["sparsity_requested"] > 0].to_dict("records")
    }
    return pd.DataFrame(columns)


def cell_name(row: Mapping[Any, Any]) -> str:
    """Name a cell: ``csp 90 %``."""
    return f"{row['method']} {100 * row['sparsity_requested']:.4g} %"


def _cells(cells: pd.DataFrame, chosen: pd.DataFrame, runs: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    first = chosen.drop_duplicates(CELL).set_index(["method", "sparsity_requested"])["trial_id"].to_dict()
    marks = {letter: on_front(cells, FRONTS[name]) for letter, name in zip("SLB", FRONTS, strict=True)}
    for place, row in enumerate(cells.to_dict("records")):
        front = "".join(letter for letter, mask in marks.items() if mask[place])
        link = _link(first.get((row["method"], row["sparsity_requested"]), ""), runs)
        yield _clean({name: row[column] for name, column in _CELL.items()}) | {"front": front} | link


def _curves(trials: pd.DataFrame, store: Store, runs: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for row in trials.to_dict("records"):
        folder = store.trial(str(row["trial_id"]))
        curve = rows_of(folder.curve)
        steps = rows_of(folder.steps) or curve
        if row["method"] != DENSE and curve:
            yield {
                "method": row["method"],
                "asked": row["sparsity_requested"],
                "loss": _series(steps, "loss"),
                "dev": _series(curve, "dev_wer"),
                "weights": rows_of(folder.weight_log) if row["sparsity_requested"] else [],
            } | _link(str(row["trial_id"]), runs)


def _link(trial: str, runs: Mapping[str, str]) -> dict[str, str]:
    """Return the address of a trial's run as a field; none where it is not known."""
    return {"run": runs[trial]} if trial in runs else {}


def _search(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """Hypervolume by number of trials, of each method; nothing where each cell was tried once."""
    if trials.drop_duplicates([*CELL, "setting"]).shape[0] == trials.drop_duplicates(CELL).shape[0]:
        return []
    return [
        {"method": method, "volume": _thinned([[n, _number(value)] for n, value in enumerate(values, 1)])}
        for method, values in hypervolumes(trials).items()
    ]


def _series(records: list[dict[str, Any]], name: str) -> list[list[float | None]]:
    points = [[row["step"], _number(row[name])] for row in records if row.get(name) is not None]
    return _thinned(points)


def _thinned(points: list[Any]) -> list[Any]:
    """Return evenly spread points, the last among them."""
    every = max(1, -(-len(points) // _CURVE_POINTS))
    return [point for i, point in enumerate(points) if i % every == 0 or i == len(points) - 1]


def _clean(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _number(value) if isinstance(value, float) else value for name, value in row.items()}


def _number(value: float) -> float | None:
    """Number with six digits; None for what JSON does not know."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
