"""A comparison in words and tables, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cspbench.comparison.report.cells import POST, TRAINED
from cspbench.comparison.report.evaluate import Evaluation
from cspbench.comparison.report.paired_tests import POOLED
from cspbench.comparison.report.verdicts import LEVEL, MARGIN
from cspbench.report.page import markdown_rows

NOTES = (
    "Settings were chosen on dev; every number here is from the test set, and no choice was made on it. WER is errors "
    "over words, the mean over seeds, folds of a cross-validation added up.",
    "Intervals of WERs are 95 % bootstrap over speakers and training seeds. Methods share the test speech, so their "
    "intervals may overlap where the paired tests tell them apart.",
    "The best rival of a row is the one with the lowest test WER: the proposed method has to beat the luckiest. “Mean "
    "reduction” of the pool is the mean of the corpora's, each against its own best rival.",
    "Differences are in percentage points, with the 95 % interval of a paired bootstrap that draws whole speakers "
    "within each corpus, studentised because speakers are few. p-values: that bootstrap, and MAPSSWE (the "
    "matched-pairs test of Gillick and Cox) over utterances; both Holm-corrected over the rivals of the row. "
    f"“Significantly” takes both below {LEVEL:g}. MAPSSWE takes utterances for independent, and is too sure where "
    "methods differ by speaker.",
    "An utterance's errors are averaged over seeds before any test: seeds hear the same speech and are no "
    "independent repeats. “Seeds redrawn” is the interval of the difference when training seeds are drawn anew beside "
    "speakers. “Pairs won” counts runs of equal seed, fold and dense model; ties count half.",
    "“At worst”: upper end of the interval, relative to the rival's WER. “Not worse” asks that the interval of the "
    "difference reach below zero, which a small test set grants easily; “non-inferior” asks for at worst "
    f"+{100 * MARGIN:g} %.",
)
"""What a reader must know; printed below the tables."""


def summary_page(comparison: Evaluation, pictures: Sequence[str] = (), command: str = "") -> str:
    """Word a comparison as a Markdown page.

    Args:
        comparison: what to word.
        pictures: names, without ending, of PNG files beside the page, to show in it.
        command: the line that made the comparison.
    """
    corpora = ", ".join(sorted(comparison.finals["corpus"].unique()))
    rivals = set(comparison.finals["method"]) - {comparison.proposed, f"{comparison.proposed}_post"}
    parts = [f"# {comparison.proposed} against {len(rivals)} methods on {corpora}", _state(comparison)]
    parts += ["## Against the best of magnitude, movement and lottery", *_verdicts(comparison, "main")]
    parts += ["## Against the best of all", *_verdicts(comparison, "all")]
    for corpus, cells in comparison.cells.groupby("corpus", sort=True):
        parts += [f"## Test WER on {corpus} (%)", *_cells(cells)]
        parts += [f"![{name}]({name}.png)" for name in pictures if name.endswith(f"_{corpus}")]
    parts += [f"![{name}]({name}.png)" for name in pictures if name.endswith(f"_{POOLED}")]
    parts += ["## What each method was given", markdown_rows([_budget(row) for row in _rows(comparison.costs)])]
    parts += ["## How to read this", "".join(f"- {note}\n" for note in _notes(comparison.finals))]
    if command:
        parts.append(f"Made by `{command}`.")
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _notes(finals: pd.DataFrame) -> list[str]:
    """`NOTES`, and what these seeds do not say."""
    runs = finals[finals["state"] == "complete"].groupby(["corpus", "fold"])[["seed", "dense_id"]].nunique()
    shared = runs[(runs["seed"] > 1) & (runs["dense_id"] == 1)].index.get_level_values("corpus").unique()
    if shared.empty:
        return [*NOTES]
    said = f"All seeds of {', '.join(shared)} prune one dense recogniser: no interval says what another would bring."
    return [*NOTES, said]


def _state(comparison: Evaluation) -> str:
    """How much of the comparison there is; what is missing is named."""
    cells = comparison.cells
    due, missing = int((cells["trials"] + cells["missing"]).sum()), int(cells["missing"].sum())
    if not missing:
        return f"Complete: {due} of {due} trials."
    lines = [
        f"- {own['corpus'].iloc[0]} at {_sparsity(_rows(own)[0])}: {_lacking(own)}"
        for _, own in cells[cells["missing"] > 0].groupby(["corpus", "sparsity_requested"])
    ]
    return f"**Unfinished: {missing} of {due} trials are missing** (why: cells.csv).\n\n" + "\n".join(lines)


def _lacking(cells: pd.DataFrame) -> str:
    """Methods of one corpus and sparsity that lack trials."""
    none = [str(name) for name in cells.loc[cells["trials"] == 0, "method"]]
    some = [
        f"{row['method']} {row['trials']} of {row['trials'] + row['missing']}" for row in _rows(cells) if row["trials"]
    ]
    said = [*([f"nothing of {', '.join(none)}"] if none else []), *([f"only {', '.join(some)}"] if some else [])]
    return "; ".join(said)


def _verdicts(comparison: Evaluation, against: str) -> list[str]:
    """A table for each kind, the pool first."""
    table = comparison.verdicts[comparison.verdicts["against"] == against]
    parts = []
    for kind in (TRAINED, POST):
        part = table[(table["kind"] == kind) & (table["verdict"] != "missing")]
        part = pd.concat([part[part["corpus"] == POOLED], part[part["corpus"] != POOLED]])
        if len(part):
            parts += [f"{kind.capitalize()} methods:", markdown_rows([verdict_row(row) for row in _rows(part)])]
    return parts or ["No such rival took part."]


def verdict_row(row: Mapping[str, Any]) -> dict[str, str]:
    """Word a row of the verdicts: heading -> text."""
    low, high = (_percent(row[bound], ".2f") for bound in ("low", "high"))
    tested = not _absent(row["difference"])
    return {
        "corpus": str(row["corpus"]),
        "sparsity": _sparsity(row),
        f"{row['proposed']} WER": _percent(row["proposed_wer"], ".2f"),
        "best rival": f"{row['best_rival']} {_percent(row['rival_wer'], '.2f')}" if tested else "–",
        "reduction": _percent(row["relative_reduction"], ".1f", " %"),
        "mean reduction": _percent(row["mean_reduction"], ".1f", " %"),
        "difference": f"{_percent(row['difference'], '.2f')} [{low}, {high}]" if tested else "–",
        "seeds redrawn": f"[{_percent(row['seeds_low'], '.2f')}, {_percent(row['seeds_high'], '.2f')}]"
        if tested
        else "–",
        "p bootstrap": _p(row["p_bootstrap_holm"]),
        "p MAPSSWE": _p(row["p_mapsswe_holm"]),
        "pairs won": f"{row['wins']:g} of {row['pairs']:g}" if tested else "–",
        "at worst": _percent(row["at_worst"], "+.1f", " %"),
        "verdict": f"{row['verdict']}{_allowance(row) if tested else ''}",
        "note": "; ".join(filter(None, [_where(row) if tested else "", str(row["note"])])),
    }


def _where(row: Mapping[str, Any]) -> str:
    """A lead of the pool may be one corpus's alone."""
    alone = row["corpus"] == POOLED and row["difference"] < 0 and not row["lower_everywhere"]
    return "not lower than the best rival on every corpus" if alone else ""


def _allowance(row: Mapping[str, Any]) -> str:
    """What can be said where no difference was shown."""
    if row["significant"]:
        return ""
    said = "non-inferior" if row["non_inferior"] else "not worse" if row["not_worse"] else "worse by the interval"
    return f" ({said})"


def _cells(cells: pd.DataFrame) -> list[str]:
    """Methods by sparsity, for each kind: WER with interval and spread over seeds, and what they cost."""
    parts = []
    for kind in (TRAINED, POST):
        part = cells[cells["kind"] == kind]
        if len(part):
            lowest = part.groupby("sparsity_requested")["wer"].min()
            rows = [_method(str(method), own, lowest) for method, own in part.groupby("method")]
            parts += [f"{kind.capitalize()} methods (dense: {_percent(part['dense_wer'].mean(), '.2f')}):"]
            parts += [markdown_rows(rows)]
    drawn = sorted(set(cells["drawn"]) - {""})
    return [*parts, f"WER [95 % interval] ± standard deviation over seeds; lowest in bold. Drawn: {'; '.join(drawn)}."]


def _method(method: str, own: pd.DataFrame, lowest: pd.Series) -> dict[str, str]:
    texts = {"method": method}
    for row in _rows(own.sort_values("sparsity_requested")):
        texts[_sparsity(row)] = _cell(row, bold=row["wer"] == lowest[row["sparsity_requested"]])
    runs, seeds, folds = (int(own[name].max()) for name in ("trials", "seeds", "folds"))
    return texts | {
        "steps": _number(own["steps_ratio"].mean(), ".3g", "×"),
        "seconds": _number(own["train_seconds"].mean(), ".0f"),
        "runs a cell": f"{runs} ({seeds} seed{'s' * (seeds != 1)}" + (f", {folds} folds)" if folds > 1 else ")"),
    }


def _cell(row: Mapping[str, Any], bold: bool) -> str:
    if _absent(row["wer"]):
        return "missing"
    wer = _percent(row["wer"], ".2f")
    spread = "" if _absent(row["wer_std"]) else f" ± {_percent(row['wer_std'], '.2f')}"
    interval = f"[{_percent(row['wer_low'], '.1f')}, {_percent(row['wer_high'], '.1f')}]"
    return f"{f'**{wer}**' if bold else wer} {interval}{spread}{' *' * (row['missing'] > 0)}"


def _budget(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "corpus": str(row["corpus"]),
        "method": str(row["method"]),
        "dev trials that chose it": str(row["tuning_trials"]),
        "steps": _number(row["steps_ratio"], ".3g", "×"),
        "seconds": _number(row["train_seconds"], ".0f"),
        "relative to the proposed": _number(row["seconds_ratio"], ".2f", "×"),
        "same dense models": "yes" if row["same_dense"] else "NO",
        "one setting a cell": "yes" if row["one_setting"] else "NO",
        "trials": f"{row['trials']}" + (f" ({row['unfinished']} unfinished)" if row["unfinished"] else ""),
    }


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _sparsity(row: Mapping[str, Any]) -> str:
    return f"{100 * row['sparsity_requested']:.4g} %"


def _percent(value: float, spec: str, unit: str = "") -> str:
    return "–" if _absent(value) else f"{100 * value:{spec}}{unit}"


def _number(value: float, spec: str, unit: str = "") -> str:
    return "–" if _absent(value) else f"{value:{spec}}{unit}"


def _p(value: float) -> str:
    if _absent(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
