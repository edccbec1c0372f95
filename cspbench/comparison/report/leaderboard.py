"""Leaderboard of a comparison: methods by mean test WER with their cost, the closed and the open division apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cspbench.comparison.config import CONTROL
from cspbench.comparison.report.evaluate import Evaluation, records
from cspbench.report.markdown import markdown_rows

RANKED_AT = (0.9, 0.95)
"""Sparsities that a rank is the mean over."""

RANKED_BUDGETS = (1.0, 4.0)
"""Budgets that a rank is the mean over."""

EXTRA_STEPS = 1.01
"""Steps over those of the budget from which a method no longer keeps the rules of the closed division."""

LEADERBOARD = ["division", "rank", "method", "mean_wer", "cells", "steps_ratio", "seconds_ratio", "tuning_trials"]
"""Columns of a `leaderboard_table`, before one for each cell."""


def leaderboard_table(evaluation: Evaluation) -> pd.DataFrame:
    """Rank methods by their mean test WER.

    A rank is the mean over the budgets of `RANKED_BUDGETS`, sparsities of `RANKED_AT` and corpora at which the proposed
    method ran. A method that lacks a cell has no rank. A method is in the open division if its entry says so, or if it
    takes more optimiser steps than the budget.

    Returns:
        One row a method, by division and rank: `LEADERBOARD`, then the WER of each cell, a mean over corpora, named
        like ``90 % 4x``. ``cells`` is how many of the ranked cells it has, ``seconds_ratio`` its training time over
        that of the proposed method, ``tuning_trials`` the dev trials that chose the setting of a cell, at most.
    """
    cells = evaluation.cells[(evaluation.cells["method"] != CONTROL) & evaluation.cells["test_wer"].notna()]
    at = np.isin(cells["budget"], RANKED_BUDGETS) & np.isin(cells["sparsity_requested"], RANKED_AT)
    cells = cells[at]
    own = cells[cells["method"] == evaluation.proposed]
    ranked = list(own[["corpus", "budget", "sparsity_requested"]].itertuples(index=False, name=None))
    rows = [_row(evaluation, str(method), part, ranked) for method, part in cells.groupby("method")]
    table = pd.DataFrame(rows)
    if table.empty:
        return pd.DataFrame(columns=LEADERBOARD)
    whole = table["cells"] == len(ranked)
    table["rank"] = table[whole].groupby("division")["mean_wer"].rank(method="min")
    return table[[*LEADERBOARD, *(name for name in table if name not in LEADERBOARD)]].sort_values(
        ["division", "rank", "mean_wer"], ignore_index=True
    )


def leaderboard_page(evaluation: Evaluation, command: str = "") -> str:
    """Word the leaderboard as Markdown, with the rules and how to enter."""
    table = leaderboard_table(evaluation)
    parts = ["# Leaderboard", f"Corpora: {evaluation.corpora}.", _RULES]
    for division, own in table.groupby("division", sort=True):
        rows = [_texts(row) for row in records(own)]
        parts += [f"## {str(division).capitalize()} division", markdown_rows(rows)]
    parts.append(_ENTER)
    if command:
        parts.append(f"Made by `{command}`.")
    return "\n\n".join(parts) + "\n"


def _row(
    evaluation: Evaluation, method: str, cells: pd.DataFrame, ranked: list[tuple[str, float, float]]
) -> dict[str, Any]:
    costs = evaluation.costs[evaluation.costs["method"] == method]
    costs = costs[np.isin(costs["budget"], RANKED_BUDGETS)]
    found = set(cells[["corpus", "budget", "sparsity_requested"]].itertuples(index=False, name=None))
    steps = float(costs["steps_ratio"].mean())
    declared_open = (costs["division"] == "open").any()
    wers = {
        f"{100 * cell['sparsity_requested'].iloc[0]:g} % {cell['budget'].iloc[0]:g}x": float(cell["test_wer"].mean())
        for _, cell in cells.groupby(["budget", "sparsity_requested"])
    }
    tried = evaluation.finals[evaluation.finals["method"] == method]
    return {
        "division": "open" if declared_open or steps > EXTRA_STEPS else "closed",
        "method": method,
        "mean_wer": float(cells["test_wer"].mean()),
        "cells": len(found & set(ranked)),
        "steps_ratio": steps,
        "seconds_ratio": float(costs["seconds_ratio"].mean()),
        "tuning_trials": int(tried["tuning_trials"].max()),
        **wers,
    }


def _texts(row: dict[str, Any]) -> dict[str, str]:
    """A row as printed: WERs in per cent."""
    cells = {name: _number(100 * value, ".2f") for name, value in row.items() if name not in LEADERBOARD}
    return {
        "rank": _number(row["rank"], ".0f"),
        "method": str(row["method"]),
        "mean WER %": _number(100 * row["mean_wer"], ".2f"),
        **{f"WER % at {name.replace('x', '×')}": text for name, text in cells.items()},
        "steps": _number(row["steps_ratio"], ".3g") + "×",
        "seconds": _number(row["seconds_ratio"], ".2f") + "×",
        "dev trials": str(row["tuning_trials"]),
    }


def _number(value: float, spec: str) -> str:
    return "–" if pd.isna(value) else f"{value:{spec}}"


_RULES = """\
Test WER in %, means over corpora and dense models, by sparsity and budget; cost over that of the proposed method.

- Closed division: given are the dense models, the optimiser steps and the data. Only the method differs. Every tuned
  method gets the same number of settings, its default and others dealt alike, and takes the best on dev.
- Open division: the pruning run may be changed too (length, recipe), and a method that takes more optimiser steps than
  the budget stands here. The cost is stated beside it."""

_ENTER = """\
## To enter a method

1. Write it as one class, in a package of your own: see CONTRIBUTING.md, "A pruning method".
2. Name it in the entry points of that package: `[project.entry-points."cspbench.methods"]`, and install the package.
3. `cspbench compare sweeps/compare.yaml --enter NAME --record analysis/compare` tunes it like the others, runs its
   finals, takes the others from the committed record, and writes tables, figures and this page."""
