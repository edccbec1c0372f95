"""Verdicts: the proposed method against the best of its rivals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from cspbench.comparison.report.paired_tests import P_VALUES, POOLED, SCOPE
from cspbench.report.significance import LEVEL, holm

MARGIN = 0.10
"""Relative increase of WER that still passes for no worse in a test of non-inferiority."""

_HOLM = tuple(f"{name}_holm" for name in P_VALUES)

_COPIED = [
    *("proposed_wer", "rival_wer", "relative_reduction", "difference", "low", "high", "models_low", "models_high"),
    *("p_floor", "models_won", "models", "wins", "pairs"),
]

VERDICTS = [
    *(*SCOPE, "proposed", "rivals", "best_rival", *_COPIED, "mean_reduction", "lower_everywhere"),
    *(*(name for pair in zip(P_VALUES, _HOLM, strict=True) for name in pair),),
    *("significant", "not_worse", "at_worst", "non_inferior", "verdict", "note"),
]
"""Columns of a `verdict_table`."""


def verdict_table(tests: pd.DataFrame) -> pd.DataFrame:
    """Judge the proposed method by its best rival, which is the one with the lowest test WER of the row.

    Picking the rival on test is in its favour, since the one that chance helped most is picked. A row is one claim.
    Where the proposed method has the lower WER, the claim is that it is better than every rival, and its p-value is the
    largest over rivals (an intersection-union test; Berger 1982, Technometrics 24(4)). Where the best rival has the
    lower WER, its p-value is multiplied by the number of rivals that it was picked from (Bonferroni).

    Variants of the proposed method, named ``<proposed>_…``, are tested but are no rivals of it.

    Args:
        tests: a `paired_test_table`.

    Returns:
        One row a corpus (or "pooled"), kind, budget and sparsity, the measures those of the test against
        ``best_rival``, and

        - ``mean_reduction``: mean over corpora of the relative reduction against each corpus's own best rival, and
          ``lower_everywhere``: all of these are positive (a single corpus: its own);
        - ``p_…``: of the claim, as above; ``p_…_holm``: corrected over all claims of the kind, which are one table;
        - ``significant``: all three corrected p-values are below `LEVEL`, in either direction;
        - ``not_worse``: the proposed method's WER is lower, or the 95 % interval of the difference holds zero. This
          says no more than that no harm was shown: a small test set shows little;
        - ``at_worst``: upper end of the interval, relative to the rival's WER: how much worse the proposed method may
          still be; ``non_inferior``: that this is at most `MARGIN`, which a small test set cannot say by being small;
        - ``verdict`` in words; ``note``: rivals and pairs that are missing.
    """
    rows = [{**key, "rivals": ", ".join(part["rival"])} | _judged(part) for key, part in _contests(tests)]
    for row in rows:
        reductions = [other.get("relative_reduction", math.nan) for other in rows if _within(other, row)]
        row["mean_reduction"] = sum(reductions) / len(reductions)
        row["lower_everywhere"] = all(reduction > 0 for reduction in reductions)
    table = pd.DataFrame(rows, columns=VERDICTS)
    for name in P_VALUES:
        table[f"{name}_holm"] = table.groupby("kind")[name].transform(holm) if rows else table[name]
    significant = (table[list(_HOLM)].astype(float) < LEVEL).all(axis=1)
    tested = table["difference"].notna()
    table["significant"] = significant.where(tested)
    table["verdict"] = [
        _worded(difference, sure) if known else "missing"
        for difference, sure, known in zip(table["difference"], significant, tested, strict=True)
    ]
    return table


def _within(other: dict[str, Any], row: dict[str, Any]) -> bool:
    """Return whether `other` is the row of a corpus that `row` is about."""
    alike = all(other[name] == row[name] for name in SCOPE[1:])
    return alike and other["corpus"] != POOLED and row["corpus"] in (POOLED, other["corpus"])


def _contests(tests: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Tests against rivals proper, row by row of the verdicts."""
    variant = [
        rival.startswith(f"{proposed.removesuffix('_post')}_")
        for rival, proposed in zip(tests["rival"], tests["proposed"], strict=True)
    ]
    for values, part in tests[~np.array(variant, dtype=bool)].groupby(SCOPE, sort=False):
        yield dict(zip(SCOPE, values, strict=True)) | {"proposed": part["proposed"].iloc[0]}, part


def _judged(part: pd.DataFrame) -> dict[str, Any]:
    tested = part.dropna(subset=["difference"])
    untested = sorted(set(part["rival"]) - set(tested["rival"]))
    notes = [f"not tested: {', '.join(untested)}"] * bool(untested)
    if tested.empty:
        return {"note": "; ".join(notes)}
    best = tested.iloc[int(tested["rival_wer"].argmin())]
    incomplete = tested.loc[tested["missing"] > 0, "rival"]
    notes += [f"incomplete: {', '.join(incomplete)}"] * bool(len(incomplete))
    notes += [f"by utterances for want of speakers ({best['drawn']})"] * ("utterances" in best["drawn"])
    at_worst = best["high"] / best["rival_wer"] if best["rival_wer"] > 0 else float("nan")
    return {
        "best_rival": best["rival"],
        **{name: best[name] for name in _COPIED},
        **{name: _claim(tested, best, name) for name in P_VALUES},
        "not_worse": bool(best["low"] <= 0),
        "at_worst": at_worst,
        "non_inferior": bool(at_worst <= MARGIN),
        "note": "; ".join(notes),
    }


def _claim(tested: pd.DataFrame, best: pd.Series, name: str) -> float:
    """p-value of the claim of a row, see `verdict_table`."""
    if (tested["difference"] < 0).all():
        return float(tested[name].max())
    return min(1.0, len(tested) * float(best[name]))


def _worded(difference: float, significant: bool) -> str:
    if difference == 0:
        return "equal"
    side = "better" if difference < 0 else "worse"
    return f"significantly {side}" if significant else f"{side}, not significantly"
