"""From trials to the table a paper prints: one setting a method and sparsity, chosen on dev, reported on test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from cspbench.report.pareto import on_front, violates
from cspbench.result import ALIASES

PLACE = ["corpus", "schema"]
"""Trials of different corpora or schema versions are never compared."""

CELL = [*PLACE, "method", "sparsity_requested"]
"""A cell of the table: trials that are averaged, or among which dev chooses."""

MEANS = [
    *("sparsity", "test_wer", "test_wer_low", "test_wer_high", "dev_wer", "dense_test_wer"),
    *("size_bytes", "compression", "smallest_bytes", "latency_ms", "latency_p95_ms", "rtf", "speedup"),
    *("int8_latency_ms", "int8_wer", "steps", "train_seconds"),
]
"""Metrics of which a summary has the mean over seeds."""

SUMMARY = [
    *CELL,
    *MEANS,
    *("test_wer_std", "wer_change", "control_change", "latency_conclusive"),
    *("seeds", "settings", "failed", "params", "formats", "violated"),
    *ALIASES,
]
"""Columns of a `summary`."""

FRONTS = {
    "wer_vs_sparsity": ("sparsity", "test_wer"),
    "wer_vs_latency": ("latency_ms", "test_wer"),
    "wer_vs_size": ("size_bytes", "test_wer"),
}
"""Pareto fronts of a study, and the columns of a `summary` they are of."""

DENSE = "dense"
"""Name under which the unpruned recogniser stands in tables."""

CONTROL = "control"
"""Method that trains the dense recogniser on and prunes nothing: what a pruned model is to be compared with."""


def select_on_dev(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep, for each method and sparsity, the trials of the one setting that did best on dev.

    Settings are compared by their mean dev WER over seeds, and only those with the most finished seeds of their cell
    take part: a setting that was tried once owes more to luck than one that was repeated. Equal means go to the
    setting that was tried first. A setting that violates a constraint of the sweep is chosen only where all of these
    do. Test results play no part.

    Args:
        frame: as from `load_results`.

    Returns:
        The finished trials of the chosen settings, all seeds, in the frame's order.
    """
    done = frame[frame["state"] == "complete"]
    by_setting = done.assign(missed=violates(done)).groupby([*CELL, "setting"], sort=False)
    settings = by_setting.agg(
        mean=("dev_wer", "mean"), size=("dev_wer", "size"), missed=("missed", "any")
    ).reset_index()
    most = settings.groupby(CELL)["size"].transform("max")
    contenders = settings[settings["size"] == most].sort_values(["missed", "mean"], kind="stable")
    chosen = contenders.drop_duplicates(CELL)[[*CELL, "setting"]]
    keep = pd.MultiIndex.from_frame(done[[*CELL, "setting"]]).isin(pd.MultiIndex.from_frame(chosen))
    return done[keep]


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Tabulate methods by sparsity, the dense recogniser first, and after it the control.

    The columns are plain numbers and text:

    - ``corpus, schema, method, sparsity_requested``; the dense recogniser's method is "dense", its sparsity 0;
    - means over seeds of the metrics `MEANS`, named as in `cspbench.result.METRICS`. The bounds of the WER too are
      means of the bounds of the seeds: seeds share the test utterances, so averaging them narrows the interval little,
      and this errs on the wide side;
    - ``test_wer_std``: standard deviation over seeds, NaN for one seed;
    - ``wer_change``: relative change of the WER to that of the dense recogniser; ``control_change``: to that of the
      control, NaN without one;
    - ``latency_conclusive``: 0 if a latency of any seed was too noisy to believe, NaN where that was not recorded;
    - ``seeds`` of the chosen setting, ``settings`` it was chosen from, ``failed`` trials of the cell;
    - ``params``: the chosen hyperparameters that vary within the study, e.g. ``"rounds=3"``;
    - ``formats`` of the packed file that size and latency describe;
    - ``violated``: constraints of the sweep that the row does not meet; empty if it meets all;
    - ``wer``: second name of ``test_wer``.

    A cell whose trials all failed, or have not finished, has NaN measures and 0 seeds.

    Args:
        frame: as from `load_results`.

    Returns:
        One row a corpus, schema version, method and requested sparsity, with the columns `SUMMARY`.
    """
    chosen = select_on_dev(frame)
    rows = [_dense_row(part) for _, part in chosen.groupby(PLACE, sort=True)]
    table = pd.DataFrame(rows + _cell_rows(frame, chosen), columns=SUMMARY)
    table["control_change"] = _control_change(table)
    references_first = table.assign(rank=table["method"].map({DENSE: 0, CONTROL: 1}).fillna(2))
    order = references_first.sort_values([*PLACE, "rank", "method", "sparsity_requested"], kind="stable").index
    return table.loc[order].reset_index(drop=True)


def fronts(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a `summary` on a Pareto front, with a bool column a front of `FRONTS` put first.

    Fronts are those of one corpus and schema version, and of test WER: they describe what came out. To choose what to
    deploy, look at ``dev_wer``. Rows that violate a constraint of the sweep are on no front.
    """
    marked = table.copy()
    for place, (name, columns) in enumerate(FRONTS.items()):
        on = pd.Series(False, index=table.index)
        for _, part in table.groupby(PLACE):
            on[part.index] = on_front(part, columns)
        marked.insert(place, name, on)
    return marked[marked[list(FRONTS)].any(axis=1)]


def _cell_rows(frame: pd.DataFrame, chosen: pd.DataFrame) -> list[dict[Any, Any]]:
    """Rows of the summary for all cells of a frame: `chosen` are the chosen trials, of some cells perhaps none."""
    trials = chosen.groupby(CELL)
    cells = pd.DataFrame(index=frame.groupby(CELL, sort=True).size().index)
    cells[MEANS] = trials[MEANS].mean()
    cells["test_wer_std"] = trials["test_wer"].std()
    cells["latency_conclusive"] = trials["latency_conclusive"].min()
    cells["wer_change"] = (cells["test_wer"] / cells["dense_test_wer"] - 1).where(cells["dense_test_wer"] != 0)
    counts = {
        "seeds": trials.size(),
        "settings": frame[frame["state"] == "complete"].groupby(CELL)["setting"].nunique(),
        "failed": frame[frame["state"] == "failed"].groupby(CELL).size(),
    }
    for name, found in counts.items():
        cells[name] = found.reindex(cells.index).fillna(0).astype(int)
    varied = _varied_params(frame)
    texts = {key: {"params": "", "formats": "", "violated": ""} for key in cells.index}
    for row in chosen.drop_duplicates(CELL)[[*CELL, *varied, "violated"]].to_dict("records"):
        texts[tuple(row[name] for name in CELL)] |= {"params": _worded_params(row, varied), "violated": row["violated"]}
    for key, formats in chosen.dropna(subset=["formats"]).groupby(CELL)["formats"].unique().items():
        texts[key]["formats"] = "; ".join(sorted(formats))
    rows = cells.reset_index().to_dict("records")
    return [
        row | texts[tuple(row[name] for name in CELL)] | {alias: row[name] for alias, name in ALIASES.items()}
        for row in rows
    ]


def _dense_row(trials: pd.DataFrame) -> dict[str, Any]:
    """The dense recognisers behind the chosen trials; latency is the median of what was measured beside each trial."""
    models = trials.drop_duplicates("dense_id")
    errors = {name: float(models[f"dense_{name}"].mean()) for name in ("test_wer", "test_wer_low", "test_wer_high")}
    times = {name: float(trials[f"dense_{name}"].median()) for name in ("latency_ms", "latency_p95_ms", "rtf")}
    row = {
        **{key: trials.iloc[0][key] for key in PLACE},
        **{"method": DENSE, "sparsity_requested": 0.0, "sparsity": 0.0},
        **errors,
        **{"dev_wer": float(models["dense_dev_wer"].mean()), "dense_test_wer": errors["test_wer"]},
        "test_wer_std": float(models["dense_test_wer"].std()),
        **{"size_bytes": float(models["dense_size_bytes"].mean()), "compression": 1.0},
        **times,
        **{"speedup": 1.0, "latency_conclusive": _mostly(trials["latency_conclusive"].dropna())},
        **{"seeds": len(models), "settings": 1, "failed": 0, "params": "", "formats": ""},
        "violated": trials.iloc[0]["dense_violated"],
    }
    return row | {alias: row[name] for alias, name in ALIASES.items()}


def _mostly(verdicts: pd.Series) -> float:
    """1 if most verdicts are 1, else 0; NaN without any."""
    return float(verdicts.mean() > 0.5) if len(verdicts) else math.nan


def _control_change(table: pd.DataFrame) -> pd.Series:
    """Relative change of the WER of each pruned row to that of the control of its corpus and schema version."""
    controls = table[table["method"] == CONTROL].groupby(PLACE)["test_wer"].mean()
    own = controls.reindex(pd.MultiIndex.from_frame(table[PLACE])).set_axis(table.index)
    known = (own > 0) & ~table["method"].isin([DENSE, CONTROL])
    return (table["test_wer"] / own - 1).where(known)


def _varied_params(frame: pd.DataFrame) -> list[str]:
    """Hyperparameter columns of which some method has more than one value in this study."""
    columns = [column for column in frame.columns if column.startswith("params.")]
    return [c for c in columns if (frame[c].astype(str).groupby(frame["method"]).nunique() > 1).any()]


def _worded_params(trial: Mapping[Any, Any], columns: list[str]) -> str:
    """Hyperparameters of a trial as ``name=value``; columns of other methods are NaN here."""
    values = {column.removeprefix("params."): trial[column] for column in columns}
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items() if not _absent(value))


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
