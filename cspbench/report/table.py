"""From trials to the table a paper prints: one setting a method and sparsity, chosen on dev, reported on test."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

PLACE = ["corpus", "schema"]
"""Trials of different corpora or schema versions are never compared."""

CELL = [*PLACE, "method", "sparsity_requested"]
"""A cell of the table: trials that are averaged, or among which dev chooses."""

SUMMARY = [
    *CELL,
    *("sparsity", "wer", "wer_low", "wer_high", "dev_wer", "wer_std", "dense_wer"),
    *("size_bytes", "compression", "latency_ms", "latency_p95_ms", "rtf", "speedup", "int8_latency_ms"),
    *("steps", "train_seconds", "seeds", "settings", "failed", "params"),
]
"""Columns of a `summary`."""

DENSE = "dense"
"""Name under which the unpruned recogniser stands in tables."""


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
    """Tabulate methods by sparsity, the dense recogniser first.

    Args:
        frame: as from `load_results`.

    Returns:
        One row a corpus, schema version, method and requested sparsity (the dense recogniser's method is "dense", its
        sparsity 0), columns plain numbers and text:

        - ``corpus, schema, method, sparsity_requested, sparsity`` (achieved);
        - ``wer, wer_low, wer_high`` on test, ``dev_wer``: means over seeds. The bounds too are means of the seeds'
          bounds: seeds share the test utterances, so averaging them narrows the interval little, and this errs on the
          wide side. ``wer_std`` is the standard deviation over seeds, NaN for one seed;
        - ``dense_wer, size_bytes, compression`` (dense size / size), ``latency_ms, latency_p95_ms, rtf, speedup``
          (dense latency / latency, each pair measured in one process), ``int8_latency_ms`` (the same weights in int8;
          NaN where that was not measured): means over seeds;
        - ``steps, train_seconds``: means over seeds;
        - ``seeds`` of the chosen setting, ``settings`` it was chosen from, ``failed`` trials of the cell;
        - ``params``: the chosen hyperparameters that vary within the study, e.g. ``"rounds=3"``.

        A cell whose trials all failed, or have not finished, has NaN measures and 0 seeds.
    """
    chosen = select_on_dev(frame)
    varied = _varied_params(frame)
    rows = [_dense_row(part) for _, part in chosen.groupby(PLACE, sort=True)]
    for _, cell in frame.groupby(CELL, sort=True):
        trials = chosen[chosen["trial_id"].isin(cell["trial_id"])]
        rows.append(_cell_row(cell, trials, varied))
    table = pd.DataFrame(rows, columns=SUMMARY)
    dense_first = table.assign(pruned=table["method"] != DENSE)
    order = dense_first.sort_values([*PLACE, "pruned", "method", "sparsity_requested"], kind="stable").index
    return table.loc[order].reset_index(drop=True)


def display_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """Word a `summary` for people: heading -> text, units in the headings; "–" where there is no number.

    The corpus, seeds and hyperparameters have a column only where they say something.
    """
    shown = {
        "corpus": table["corpus"].nunique() > 1,
        "schema": table["schema"].nunique() > 1,
        "int8 ms": bool(table["int8_latency_ms"].notna().any()),
        "seeds": bool((table["seeds"] > 1).any()),
        "chosen on dev": bool((table["params"] != "").any()),
    }
    rows = [_worded({str(key): value for key, value in row.items()}) for row in table.to_dict("records")]
    return [{heading: text for heading, text in row.items() if shown.get(heading, True)} for row in rows]


def _worded(row: dict[str, Any]) -> dict[str, str]:
    return {
        "corpus": str(row["corpus"]),
        "schema": str(row["schema"]),
        "method": str(row["method"]),
        "sparsity %": _number(100 * row["sparsity_requested"], ".4g"),
        "achieved %": _number(100 * row["sparsity"], ".2f"),
        "WER %": _wer(row),
        "size MB": _number(row["size_bytes"] / 1e6, ".2f"),
        "smaller": _number(row["compression"], ".1f", "×"),
        "latency ms": _number(row["latency_ms"], ".3f"),
        "p95 ms": _number(row["latency_p95_ms"], ".3f"),
        "faster": _number(row["speedup"], ".2f", "×"),
        "int8 ms": _number(row["int8_latency_ms"], ".3f"),
        "RTF": _number(row["rtf"], ".3f"),
        "seeds": str(row["seeds"]),
        "chosen on dev": str(row["params"]),
    }


def _cell_row(cell: pd.DataFrame, trials: pd.DataFrame, varied: list[str]) -> dict[str, Any]:
    """One row of the summary: `trials` are the chosen ones among the `cell`'s, perhaps none."""
    first = cell.iloc[0]
    done = cell[cell["state"] == "complete"]
    mean = {key: float(trials[key].mean()) for key in ("sparsity", "wer", "wer_low", "wer_high", "dev_wer")}
    cost = {key: float(trials[key].mean()) for key in ("latency_ms", "latency_p95_ms", "rtf", "int8_latency_ms")}
    return {
        **{key: first[key] for key in CELL},
        **mean,
        "wer_std": float(trials["wer"].std()),
        "dense_wer": float(trials["dense_wer"].mean()),
        "size_bytes": float(trials["size_bytes"].mean()),
        "compression": float((trials["dense_size_bytes"] / trials["size_bytes"]).mean()),
        **cost,
        "speedup": float((trials["dense_latency_ms"] / trials["latency_ms"]).mean()),
        "steps": float(trials["steps"].mean()),
        "train_seconds": float(trials["train_seconds"].mean()),
        "seeds": len(trials),
        "settings": int(done["setting"].nunique()),
        "failed": int((cell["state"] == "failed").sum()),
        "params": _worded_params(trials, varied),
    }


def _dense_row(trials: pd.DataFrame) -> dict[str, Any]:
    """The dense recognisers behind the chosen trials; latency is the median of what was measured beside each trial."""
    models = trials.drop_duplicates("dense_id")
    return {
        **{key: trials.iloc[0][key] for key in PLACE},
        "method": DENSE,
        **{"sparsity_requested": 0.0, "sparsity": 0.0},
        **{"wer": float(models["dense_wer"].mean()), "dev_wer": float(models["dense_dev_wer"].mean())},
        "wer_low": float(models["dense_wer_low"].mean()),
        "wer_high": float(models["dense_wer_high"].mean()),
        "wer_std": float(models["dense_wer"].std()),
        "dense_wer": float(models["dense_wer"].mean()),
        **{"size_bytes": float(models["dense_size_bytes"].mean()), "compression": 1.0},
        "latency_ms": float(trials["dense_latency_ms"].median()),
        "latency_p95_ms": float(trials["dense_latency_p95_ms"].median()),
        **{"rtf": float(trials["dense_rtf"].median()), "speedup": 1.0, "int8_latency_ms": float("nan")},
        **{"steps": float("nan"), "train_seconds": float("nan")},
        **{"seeds": len(models), "settings": 1, "failed": 0, "params": ""},
    }


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


def _wer(row: dict[str, Any]) -> str:
    if pd.isna(row["wer"]):
        return "failed" if row["failed"] else "–"
    return f"{100 * row['wer']:.1f} [{100 * row['wer_low']:.1f}, {100 * row['wer_high']:.1f}]"
