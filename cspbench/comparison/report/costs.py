"""Table of costs: what each method was given, beside what the proposed method was given."""

from __future__ import annotations

import pandas as pd

from cspbench.comparison.report.cells import POST, steps_ratio
from cspbench.comparison.report.word_errors import RUN

COSTS = [
    *("corpus", "kind", "budget", "method", "division", "tuning_trials", "steps_ratio", "train_seconds"),
    *("seconds_ratio", "same_dense", "one_setting", "trials", "unfinished"),
]
"""Columns of a `cost_table`."""


def cost_table(finals: pd.DataFrame, proposed: str) -> pd.DataFrame:
    """Tabulate what each method was given on each corpus.

    Returns:
        One row a corpus, kind, budget and method:

        - ``division``, closed or open;
        - ``tuning_trials``: dev trials that chose its settings: the number, or lowest–highest over sparsities;
        - ``steps_ratio``: optimiser steps over the proposed method's, mean; ``train_seconds``: median, and
          ``seconds_ratio`` over that of the proposed method: means little where trials ran on several machines;
        - ``same_dense``: its runs start from the dense models of the proposed method's runs of equal fold and seeds;
        - ``one_setting``: all seeds and folds of a cell have the same hyperparameters and learning rate;
        - ``trials`` finished, ``unfinished``.
    """
    done = finals[finals["state"] == "complete"].assign(ratio=steps_ratio(finals, proposed))
    rows = []
    keys = ["corpus", "kind", "budget", "method"]
    for (corpus, kind, budget, method), part in finals.groupby(keys, sort=True):
        here = done[(done["corpus"] == corpus) & (done["budget"] == budget)]
        own = here[here["method"] == method]
        ours = here[here["method"] == (f"{proposed}_post" if kind == POST else proposed)]
        settings = own.assign(setting=own["params"].astype(str) + own["learning_rate"].astype(str))
        rows.append(
            {
                **{"corpus": corpus, "kind": kind, "budget": budget, "method": method},
                "division": part["division"].iloc[0],
                "tuning_trials": _range(part["tuning_trials"]),
                "steps_ratio": float(own["ratio"].mean()),
                "train_seconds": float(own["train_seconds"].median()),
                "seconds_ratio": _ratio(own, ours),
                "same_dense": _same_dense(own, ours),
                "one_setting": bool((settings.groupby("sparsity_requested")["setting"].nunique() <= 1).all()),
                **{"trials": len(own), "unfinished": len(part) - len(own)},
            }
        )
    table = pd.DataFrame(rows, columns=COSTS)
    return table.sort_values(
        ["kind", "corpus", "budget", "method"], key=lambda c: c.ne("trained") if c.name == "kind" else c
    )


def _range(counts: pd.Series) -> str:
    known = counts.dropna().astype(int)
    if known.empty:
        return ""
    low, high = known.min(), known.max()
    return str(low) if low == high else f"{low}–{high}"


def _ratio(own: pd.DataFrame, ours: pd.DataFrame) -> float:
    base = float(ours["train_seconds"].median())
    return float(own["train_seconds"].median()) / base if base > 0 else float("nan")


def _same_dense(own: pd.DataFrame, ours: pd.DataFrame) -> bool:
    dense = ours.groupby(RUN)["dense_id"].agg(set).to_dict()
    runs = zip(zip(*(own[column] for column in RUN), strict=True), own["dense_id"], strict=True)
    return all(name in dense[run] for run, name in runs if run in dense)
