"""From trials to the table a paper prints: one setting a method and sparsity, chosen on dev, reported on test."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

from cspbench.report.columns import Column, rows_of
from cspbench.report.pareto import on_front
from cspbench.result import ALIASES
from cspbench.units import size_unit, time_unit

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
    *("test_wer_std", "wer_change", "latency_conclusive", "seeds", "settings", "failed", "params", "formats"),
    *ALIASES,
]
"""Columns of a `summary`."""

FRONTS = {
    "wer_vs_sparsity": ("sparsity", "test_wer"),
    "wer_vs_latency": ("latency_ms", "test_wer"),
    "wer_vs_size": ("size_bytes", "test_wer"),
}
"""Pareto fronts of a study, and the columns of a `summary` they are of."""

_LETTERS = {"wer_vs_sparsity": "S", "wer_vs_latency": "L", "wer_vs_size": "B"}
FRONT_NOTE = "front: Pareto fronts of test WER and sparsity (S), latency (L), bytes (B)"
NOISY = "~"
NOISY_NOTE = "~: the machine was too noisy to believe this latency"

DENSE = "dense"
"""Name under which the unpruned recogniser stands in tables."""

CONTROL = "control"
"""Method that trains the dense recogniser on and prunes nothing: what a pruned model is to be compared with."""


def select_on_dev(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep, for each method and sparsity, the trials of the one setting that did best on dev.

    Settings are compared by their mean dev WER over seeds, and only those with the most finished seeds of their cell
    take part: a setting that was tried once owes more to luck than one that was repeated. Equal means go to the
    setting that was tried first. Test results play no part.

    Args:
        frame: as from `load_results`.

    Returns:
        The finished trials of the chosen settings, all seeds, in the frame's order.
    """
    done = frame[frame["state"] == "complete"]
    settings = done.groupby([*CELL, "setting"], sort=False)["dev_wer"].agg(["mean", "size"]).reset_index()
    most = settings.groupby(CELL)["size"].transform("max")
    contenders = settings[settings["size"] == most].sort_values("mean", kind="stable")
    chosen = contenders.drop_duplicates(CELL)[[*CELL, "setting"]]
    keep = pd.MultiIndex.from_frame(done[[*CELL, "setting"]]).isin(pd.MultiIndex.from_frame(chosen))
    return done[keep]


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Tabulate methods by sparsity, the dense recogniser first, and after it the control.

    Args:
        frame: as from `load_results`.

    Returns:
        One row a corpus, schema version, method and requested sparsity (the dense recogniser's method is "dense", its
        sparsity 0), columns plain numbers and text:

        - ``corpus, schema, method, sparsity_requested``;
        - means over seeds of the metrics `MEANS`, named as in `cspbench.result.METRICS`. The bounds of the WER too are
          means of the seeds' bounds: seeds share the test utterances, so averaging them narrows the interval little,
          and this errs on the wide side;
        - ``test_wer_std``: standard deviation over seeds, NaN for one seed;
        - ``wer_change``: relative change of the WER to that of the dense recogniser;
        - ``latency_conclusive``: 0 if a latency of any seed was too noisy to believe, NaN where that was not recorded;
        - ``seeds`` of the chosen setting, ``settings`` it was chosen from, ``failed`` trials of the cell;
        - ``params``: the chosen hyperparameters that vary within the study, e.g. ``"rounds=3"``;
        - ``formats`` of the packed file that size and latency describe;
        - ``wer``: second name of ``test_wer``.

        A cell whose trials all failed, or have not finished, has NaN measures and 0 seeds.
    """
    chosen = select_on_dev(frame)
    varied = _varied_params(frame)
    rows = [_dense_row(part) for _, part in chosen.groupby(PLACE, sort=True)]
    for _, cell in frame.groupby(CELL, sort=True):
        trials = chosen[chosen["trial_id"].isin(cell["trial_id"])]
        rows.append(_cell_row(cell, trials, varied))
    table = pd.DataFrame(rows, columns=SUMMARY)
    references_first = table.assign(rank=table["method"].map({DENSE: 0, CONTROL: 1}).fillna(2))
    order = references_first.sort_values([*PLACE, "rank", "method", "sparsity_requested"], kind="stable").index
    return table.loc[order].reset_index(drop=True)


def fronts(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a `summary` on a Pareto front, with a bool column a front of `FRONTS` put first.

    Fronts are those of one corpus and schema version, and of test WER: they describe what came out. To choose what to
    deploy, look at ``dev_wer``.
    """
    marked = table.copy()
    for place, (name, columns) in enumerate(FRONTS.items()):
        on = pd.Series(False, index=table.index)
        for _, part in table.groupby(PLACE):
            on[part.index] = on_front(part, columns)
        marked.insert(place, name, on)
    return marked[marked[list(FRONTS)].any(axis=1)]


def display_columns(table: pd.DataFrame) -> list[Column]:
    """Word a `summary` for people, units in the headings; "–" where there is no number.

    Corpus, schema version, seeds, int8 and hyperparameters have a column only where they say something.
    """
    time = time_unit([*table["latency_ms"].dropna(), *table["int8_latency_ms"].dropna()])
    size = size_unit(table["size_bytes"].dropna())
    rows = table.to_dict("records")

    def column(heading: str, rank: int, cell: Callable[[dict[Any, Any]], str], right: bool = True) -> Column:
        return Column(heading, tuple(cell(row) for row in rows), rank, right)

    def number(name: str, spec: str = ".2f", factor: float = 1.0, unit: str = "") -> Callable[[dict[Any, Any]], str]:
        return lambda row: _number(row[name] * factor, spec, unit)

    def timed(name: str) -> Callable[[dict[Any, Any]], str]:
        return lambda row: _noisy(row, _number(row[name] * time.factor, f".{time.digits}f"))

    marks = fronts(table)[list(FRONTS)]
    front = {index: "".join(_LETTERS[name] for name in FRONTS if on[name]) for index, on in marks.iterrows()}
    shown = {
        "corpus": table["corpus"].nunique() > 1,
        "schema": table["schema"].nunique() > 1,
        "seeds": bool((table["seeds"] > 1).any()),
        "chosen on dev": bool((table["params"] != "").any()),
        f"int8 {time.name}": bool(table["int8_wer"].notna().any()),
        "int8 WER %": bool(table["int8_wer"].notna().any()),
    }
    columns = [
        column("corpus", 0, lambda row: str(row["corpus"]), right=False),
        column("schema", 0, lambda row: str(row["schema"])),
        column("method", 0, lambda row: str(row["method"]), right=False),
        column("sparsity", 0, number("sparsity_requested", ".4g", 100, " %")),
        column("achieved %", 17, number("sparsity", ".2f", 100)),
        column("test WER %", 1, _wer),
        column("vs dense", 2, number("wer_change", "+.0f", 100, " %")),
        column(f"size {size.name}", 3, number("size_bytes", f".{size.digits}f", size.factor)),
        column("compression", 7, number("compression", ".1f", 1, "×")),
        column(f"latency {time.name}", 4, timed("latency_ms")),
        column("speed-up", 6, lambda row: _noisy(row, _number(row["speedup"], ".2f", "×"))),
        column(f"p95 {time.name}", 14, timed("latency_p95_ms")),
        column(
            "real time", 13, lambda row: _noisy(row, _number(1 / row["rtf"] if row["rtf"] else math.nan, ".0f", "×"))
        ),
        column(f"int8 {time.name}", 11, timed("int8_latency_ms")),
        column("int8 WER %", 10, number("int8_wer", ".1f", 100)),
        column(f"smallest {size.name}", 12, number("smallest_bytes", f".{size.digits}f", size.factor)),
        Column("front", tuple(front.get(index, "") for index in table.index), 5, right=False),
        column("seeds", 8, lambda row: str(row["seeds"])),
        column("chosen on dev", 9, lambda row: str(row["params"]), right=False),
        column("formats timed", 18, lambda row: str(row["formats"]), right=False),
    ]
    return [one for one in columns if shown.get(one.heading, True)]


def display_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """Return `display_columns` as rows: heading -> text."""
    return rows_of(display_columns(table)) if len(table) else []


def display_notes(table: pd.DataFrame) -> list[str]:
    """Return what a reader must know to read the marks of `display_columns`."""
    noisy = bool((table["latency_conclusive"] == 0).any())
    return [FRONT_NOTE, *([NOISY_NOTE] if noisy else [])]


def _cell_row(cell: pd.DataFrame, trials: pd.DataFrame, varied: list[str]) -> dict[str, Any]:
    """One row of the summary: `trials` are the chosen ones among the `cell`'s, perhaps none."""
    first = cell.iloc[0]
    done = cell[cell["state"] == "complete"]
    row = {
        **{key: first[key] for key in CELL},
        **{name: float(trials[name].mean()) for name in MEANS},
        "test_wer_std": float(trials["test_wer"].std()),
        "latency_conclusive": float(trials["latency_conclusive"].min()),
        "seeds": len(trials),
        "settings": int(done["setting"].nunique()),
        "failed": int((cell["state"] == "failed").sum()),
        "params": _worded_params(trials, varied),
        "formats": "; ".join(sorted(set(trials["formats"].dropna()))),
    }
    row["wer_change"] = row["test_wer"] / row["dense_test_wer"] - 1 if row["dense_test_wer"] else math.nan
    return row | {alias: row[name] for alias, name in ALIASES.items()}


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
        **{"speedup": 1.0, "latency_conclusive": float(trials["latency_conclusive"].min())},
        **{"seeds": len(models), "settings": 1, "failed": 0, "params": "", "formats": ""},
    }
    return row | {alias: row[name] for alias, name in ALIASES.items()}


def _varied_params(frame: pd.DataFrame) -> list[str]:
    """Hyperparameter columns of which some method has more than one value in this study."""
    columns = [column for column in frame.columns if column.startswith("params.")]
    return [c for c in columns if (frame[c].astype(str).groupby(frame["method"]).nunique() > 1).any()]


def _worded_params(trials: pd.DataFrame, columns: list[str]) -> str:
    """Hyperparameters that all `trials` share, as ``name=value``; columns of other methods are NaN here."""
    if trials.empty:
        return ""
    values = {column.removeprefix("params."): trials.iloc[0][column] for column in columns}
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items() if not _absent(value))


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _number(value: float, spec: str, unit: str = "") -> str:
    return "–" if pd.isna(value) else f"{value:{spec}}{unit}"


def _noisy(row: dict[Any, Any], text: str) -> str:
    return f"{NOISY}{text}" if row["latency_conclusive"] == 0 and text != "–" else text


def _wer(row: dict[Any, Any]) -> str:
    if pd.isna(row["test_wer"]):
        return "failed" if row["failed"] else "–"
    return f"{100 * row['test_wer']:.1f} [{100 * row['test_wer_low']:.1f}, {100 * row['test_wer_high']:.1f}]"
