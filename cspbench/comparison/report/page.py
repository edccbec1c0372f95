"""Summary of a comparison in words and tables, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cspbench.comparison.config import CONTROL
from cspbench.comparison.report.cells import KINDS, POST, TRAINED
from cspbench.comparison.report.drawing import usual_budget
from cspbench.comparison.report.evaluate import Evaluation, records
from cspbench.comparison.report.paired_tests import P_VALUES, POOLED
from cspbench.comparison.report.part_figures import density_table
from cspbench.comparison.report.verdicts import MARGIN
from cspbench.report.markdown import markdown_rows
from cspbench.report.significance import LEVEL

DENSITIES_AT = 0.9
"""Sparsity at which the weights kept by each matrix are listed."""

NOTES = (
    "Settings were chosen on dev; every number here is from the test set, and no choice was made on it. WER is errors "
    "over words, the mean over pruning runs, then over dense models, folds of a cross-validation added up.",
    "A budget is a multiple of the corpus's pruning run. The control is the dense model with the same further training "
    "and nothing pruned. Seconds are medians of wall-clock time, which other work on the machine lengthens.",
    "Intervals of WERs are 95 % bootstrap over speakers and dense models. Methods share the test speech, so their "
    "intervals may overlap where the paired tests tell them apart. The unit of replication is the dense model: the "
    "first ± is the standard deviation over dense models, the second that over pruning runs of one model.",
    "The best rival of a row is the one with the lowest test WER: picking it on test is in its favour. “Mean "
    "reduction” of the pool is the mean of the corpora's, each against its own best rival. Variants of the proposed "
    "method are no rivals.",
    "Differences are in percentage points, with the 95 % interval of a paired bootstrap that draws whole speakers "
    "within each corpus, studentised because speakers are few.",
    "p-values: the exact sign-flip test by speaker, that bootstrap, and MAPSSWE (the matched-pairs test of Gillick and "
    "Cox) over independent stretches of speech. None is below what so many speakers can resolve (n speakers: 2 / 2^n). "
    "A row's claim is that the proposed method is better than every rival: its p-value is the largest over rivals. "
    "Where the best rival is better, its p-value is multiplied by the number of rivals. All are Holm-corrected over "
    f"the claims of the table. “Significantly” takes all three below {LEVEL:g}.",
    "An utterance's errors are averaged over runs before any test: runs are tested on the same speech and are no "
    "independent repeats. “Models redrawn” is the interval of the difference when dense models are drawn anew beside "
    "speakers. “Models won” counts dense models, “pairs won” runs of equal fold, model and seed; ties count half.",
    "“At worst”: upper end of the interval, relative to the rival's WER. “Not worse” asks that the interval of the "
    "difference reach below zero, which a small test set grants easily; “non-inferior” asks for at worst "
    f"+{100 * MARGIN:g} %.",
)
"""Remarks on how to read the tables; printed below them."""


def summary_page(evaluation: Evaluation, pictures: Sequence[str] = (), command: str = "") -> str:
    """Word a comparison as a Markdown page.

    Args:
        evaluation: what to word.
        pictures: names, without ending, of PNG files beside the page, to show in it.
        command: the line that made the comparison.
    """
    parts = [f"# {evaluation.proposed} against {len(rival_names(evaluation))} methods on {evaluation.corpora}"]
    parts += [_state(evaluation), "## Against the best rival", *_verdicts(evaluation)]
    parts += [f"![{name}]({name}.png)" for name in pictures if name == "wer_vs_budget"]
    for corpus, cells in evaluation.cells.groupby("corpus", sort=True):
        parts += _corpus(evaluation, str(corpus), cells)
        parts += [f"![{name}]({name}.png)" for name in pictures if name.endswith(f"_{corpus}")]
    parts += [f"![{name}]({name}.png)" for name in pictures if name.endswith(f"_{POOLED}")]
    parts += ["## What each method was given", markdown_rows([_cost(row) for row in records(evaluation.costs)])]
    parts += ["## How to read this", "".join(f"- {note}\n" for note in _notes(evaluation.finals))]
    if command:
        parts.append(f"Made by `{command}`.")
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def rival_names(evaluation: Evaluation) -> list[str]:
    """Methods that the proposed one is compared with: neither the control nor variants of it."""
    return sorted(rival for rival in set(evaluation.tests["rival"]) if not rival.startswith(f"{evaluation.proposed}_"))


def _notes(finals: pd.DataFrame) -> list[str]:
    """`NOTES`, and what these seeds do not say."""
    runs = finals[finals["state"] == "complete"].groupby(["corpus", "fold"])[["seed", "dense_id"]].nunique()
    shared = runs[(runs["seed"] > 1) & (runs["dense_id"] == 1)].index.get_level_values("corpus").unique()
    if shared.empty:
        return [*NOTES]
    said = f"All runs of {', '.join(shared)} prune one dense model: no interval says what another would bring."
    return [*NOTES, said]


def _state(evaluation: Evaluation) -> str:
    """Completeness of the comparison; what is missing is named."""
    cells = evaluation.cells
    due, missing = int((cells["trials"] + cells["missing"]).sum()), int(cells["missing"].sum())
    if not missing:
        return f"Complete: {due} of {due} trials."
    lines = [
        f"- {own['corpus'].iloc[0]} at {_sparsity(records(own)[0])}, budget {own['budget'].iloc[0]:g}: {_lacking(own)}"
        for _, own in cells[cells["missing"] > 0].groupby(["corpus", "budget", "sparsity_requested"])
    ]
    return f"**Unfinished: {missing} of {due} trials are missing** (why: cells.csv).\n\n" + "\n".join(lines)


def _lacking(cells: pd.DataFrame) -> str:
    """Methods of one corpus and sparsity that lack trials."""
    none = [str(name) for name in cells.loc[cells["trials"] == 0, "method"]]
    some = [
        f"{row['method']} {row['trials']} of {row['trials'] + row['missing']}"
        for row in records(cells)
        if row["trials"]
    ]
    said = [*([f"nothing of {', '.join(none)}"] if none else []), *([f"only {', '.join(some)}"] if some else [])]
    return "; ".join(said)


def _verdicts(evaluation: Evaluation) -> list[str]:
    """A table for each kind, the pool first."""
    parts = []
    for kind in (TRAINED, POST):
        part = evaluation.verdicts[
            (evaluation.verdicts["kind"] == kind) & (evaluation.verdicts["verdict"] != "missing")
        ]
        part = pd.concat([part[part["corpus"] == POOLED], part[part["corpus"] != POOLED]])
        if len(part):
            parts += [f"{kind.capitalize()} methods:", markdown_rows([verdict_row(row) for row in records(part)])]
    return parts or ["No rival took part."]


def verdict_row(row: Mapping[str, Any]) -> dict[str, str]:
    """Word a row of the verdicts: heading -> text."""
    low, high = (_percent(row[bound], ".2f") for bound in ("low", "high"))
    models_low, models_high = (_percent(row[bound], ".2f") for bound in ("models_low", "models_high"))
    tested = not _absent(row["difference"])
    return {
        "corpus": str(row["corpus"]),
        "budget": f"{row['budget']:g}×",
        "sparsity": _sparsity(row),
        f"{row['proposed']} WER": _percent(row["proposed_wer"], ".2f"),
        "best rival": f"{row['best_rival']} {_percent(row['rival_wer'], '.2f')}" if tested else "–",
        "reduction": _percent(row["relative_reduction"], ".1f", " %"),
        "mean reduction": _percent(row["mean_reduction"], ".1f", " %"),
        "difference": f"{_percent(row['difference'], '.2f')} [{low}, {high}]" if tested else "–",
        "models redrawn": f"[{models_low}, {models_high}]" if tested else "–",
        **{f"p {_TESTS[name]}": _p(row[f"{name}_holm"]) for name in P_VALUES},
        "models won": f"{row['models_won']:g} of {row['models']:g}" if tested else "–",
        "pairs won": f"{row['wins']:g} of {row['pairs']:g}" if tested else "–",
        "at worst": _percent(row["at_worst"], "+.1f", " %"),
        "verdict": f"{row['verdict']}{_allowance(row) if tested else ''}",
        "note": "; ".join(filter(None, [_where(row) if tested else "", str(row["note"])])),
    }


_TESTS = {"p_exact": "exact", "p_bootstrap": "bootstrap", "p_mapsswe": "MAPSSWE"}


def _where(row: Mapping[str, Any]) -> str:
    """A lead of the pool may be one corpus's alone."""
    alone = row["corpus"] == POOLED and row["difference"] < 0 and not row["lower_everywhere"]
    return "not lower than the best rival on every corpus" if alone else ""


def _allowance(row: Mapping[str, Any]) -> str:
    """Sentence for a row where no difference was shown."""
    if row["significant"]:
        return ""
    said = "non-inferior" if row["non_inferior"] else "not worse" if row["not_worse"] else "worse by the interval"
    return f" ({said})"


def _corpus(evaluation: Evaluation, corpus: str, cells: pd.DataFrame) -> list[str]:
    """Tables of one corpus: WER by budget, and the weights that each method keeps by matrix."""
    parts = [f"## Test WER on {evaluation.named(corpus)}, in %"]
    for budget, own in cells.groupby("budget"):
        parts += _cells(own, float(str(budget)))
    drawn = sorted(set(cells["drawn"]) - {""})
    parts.append(
        "WER [95 % interval] ± standard deviation over dense models ± over pruning runs of one; lowest in bold; "
        f"* trials are missing. Drawn: {'; '.join(drawn)}."
    )
    budget = usual_budget(evaluation)
    usual = cells[(cells["budget"] == budget) & cells["test_wer"].notna()].sort_values(["sparsity_requested", "method"])
    if len(usual):
        head = f"### Kinds of errors on {corpus}, budget {budget:g}× (% of words; loss in nats a label)"
        parts += [head, markdown_rows([_kinds(row) for row in records(usual)])]
    densities = density_table(evaluation.layers, corpus, DENSITIES_AT, budget)
    if densities:
        head = f"### Weights kept (%) on {corpus} at {100 * DENSITIES_AT:g} % sparsity, budget {budget:g}×"
        parts += [head, markdown_rows(densities)]
    return parts


def _cells(cells: pd.DataFrame, budget: float) -> list[str]:
    """Methods by sparsity at one budget, for each kind: WER with interval and spreads, and what they cost."""
    parts = []
    for kind in (TRAINED, POST):
        part = cells[cells["kind"] == kind]
        if len(part):
            part = part.sort_values("sparsity_requested")
            pruned = part[part["method"] != CONTROL]
            lowest = pruned.groupby("sparsity_requested")["test_wer"].min()
            heads = [_sparsity(row) for row in records(part.drop_duplicates("sparsity_requested"))]
            rows = [_method(str(method), own, heads, lowest) for method, own in part.groupby("method")]
            dense = _percent(part["dense_wer"].mean(), ".2f")
            parts += [f"{kind.capitalize()} methods, budget {budget:g}× (dense: {dense}):", markdown_rows(rows)]
    return parts


def _method(method: str, own: pd.DataFrame, heads: Sequence[str], lowest: pd.Series) -> dict[str, str]:
    """Row of a method, with a column for each sparsity; a dash where the plan has no run of it."""
    texts = {"method": method} | dict.fromkeys(heads, "–")
    for row in records(own):
        best = method != CONTROL and row["test_wer"] == lowest.get(row["sparsity_requested"])
        texts[_sparsity(row)] = _cell(row, bold=best)
    models, seeds, folds = (int(own[name].max()) for name in ("dense_models", "seeds", "folds"))
    return texts | {
        "steps": _number(own["steps_ratio"].mean(), ".3g", "×"),
        "seconds": _number(own["train_seconds"].median(), ".0f"),
        "dense models": str(models),
        "pruning seeds": str(seeds) + (f", {folds} folds" if folds > 1 else ""),
    }


def _cell(row: Mapping[str, Any], bold: bool) -> str:
    if _absent(row["test_wer"]):
        return "missing"
    wer = _percent(row["test_wer"], ".2f")
    spreads = [_percent(row[name], ".2f") for name in ("std_dense", "std_seeds") if not _absent(row[name])]
    interval = f"[{_percent(row['low'], '.1f')}, {_percent(row['high'], '.1f')}]"
    spread = "".join(f" ± {text}" for text in spreads)
    return f"{f'**{wer}**' if bold else wer} {interval}{spread}{' *' * (row['missing'] > 0)}"


def _kinds(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "method": str(row["method"]),
        "sparsity": _sparsity(row),
        "WER": _percent(row["test_wer"], ".2f"),
        **{name: _percent(row[name], ".2f") for name in KINDS},
        "CER (%)": _percent(row["test_cer"], ".2f"),
        "loss": _number(row["test_loss"], ".3f"),
    }


def _cost(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "corpus": str(row["corpus"]),
        "budget": f"{row['budget']:g}×",
        "method": str(row["method"]),
        "division": str(row["division"]),
        "dev trials that chose it": str(row["tuning_trials"]),
        "steps": _number(row["steps_ratio"], ".3g", "×"),
        "seconds": _number(row["train_seconds"], ".0f"),
        "of the proposed method's": _number(row["seconds_ratio"], ".2f", "×"),
        "same dense models": "yes" if row["same_dense"] else "NO",
        "one setting a cell": "yes" if row["one_setting"] else "NO",
        "trials": f"{row['trials']}" + (f" ({row['unfinished']} unfinished)" if row["unfinished"] else ""),
    }


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
