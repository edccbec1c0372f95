"""The proposed method against the best of its rivals: better, no worse, or worse?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from cspbench.comparison.report.paired_tests import FAMILY, POOLED
from cspbench.report.significance import holm

MAIN = ("magnitude", "movement", "lottery")
"""The rivals that the claim "better than other pruning" is about."""

LEVEL = 0.05
MARGIN = 0.10
"""How much worse, relative to the rival's WER, still passes for no worse in a test of non-inferiority."""

VERDICTS = [
    *("corpus", "kind", "sparsity_requested", "proposed", "against", "rivals", "best_rival"),
    *("proposed_wer", "rival_wer", "relative_reduction", "mean_reduction", "lower_everywhere"),
    *("difference", "low", "high", "seeds_low", "seeds_high"),
    *("p_bootstrap", "p_bootstrap_holm", "p_mapsswe", "p_mapsswe_holm"),
    *("significant", "not_worse", "at_worst", "non_inferior", "wins", "pairs", "verdict", "note"),
]
"""Columns of a `verdict_table`."""

_COPIED = [
    *("proposed_wer", "rival_wer", "relative_reduction", "difference", "low", "high", "seeds_low", "seeds_high"),
    *("p_bootstrap", "p_bootstrap_holm", "p_mapsswe", "p_mapsswe_holm", "wins", "pairs"),
]


def verdict_table(tests: pd.DataFrame, main: Sequence[str] = MAIN) -> pd.DataFrame:
    """Judge the proposed method by its best rival, which is the one with the lowest test WER of the row.

    That the rival is picked on test is to the rivals' advantage: it is the luckiest of them that must be beaten.

    Args:
        tests: a `paired_test_table`.
        main: the rivals of the rows ``against`` "main".

    Returns:
        One row a corpus (or "pooled"), kind and sparsity for each of ``against`` "main" and "all" that has rivals,
        the measures those of the test against ``best_rival``, and

        - ``mean_reduction``: the mean over corpora of the relative reduction against each corpus's own best rival,
          and ``lower_everywhere``: whether all of these are positive (a single corpus: its own);
        - ``p_…_holm``: corrected over the ``rivals`` of this row, which are its family;
        - ``significant``: both tests say p < 0.05 after Holm's correction, in either direction. Stricter than need be:
          to beat the best of a set is to beat all of it, for which each test may keep its own level;
        - ``not_worse``: the proposed method's WER is lower, or the 95 % interval of the difference holds zero. This
          says no more than that no harm was shown: a small test set shows little;
        - ``at_worst``: upper end of the interval, relative to the rival's WER: how much worse the proposed method may
          still be; ``non_inferior``: that this is at most `MARGIN`, which a small test set cannot say by being small;
        - ``verdict`` in words; ``note``: rivals and pairs that are missing.
    """
    rows = [
        {**key, "against": against, "rivals": ", ".join(part["rival"])} | _judged(part)
        for key, against, part in _contests(tests, main)
    ]
    for row in rows:
        reductions = [other.get("relative_reduction", math.nan) for other in rows if _within(other, row)]
        row["mean_reduction"] = sum(reductions) / len(reductions)
        row["lower_everywhere"] = all(reduction > 0 for reduction in reductions)
    return pd.DataFrame(rows, columns=VERDICTS)


def _within(other: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether `other` is the row of a corpus that `row` speaks of."""
    alike = all(other[name] == row[name] for name in (*FAMILY[1:], "against"))
    return alike and other["corpus"] != POOLED and row["corpus"] in (POOLED, other["corpus"])


def main_name(rival: str, main: Sequence[str] = MAIN) -> str | None:
    """The one of `main` that a method is, or is a variant of (``movement_soft`` is movement); None if of none."""
    return next((name for name in main if rival == name or rival.startswith((f"{name}_", f"{name}-"))), None)


def _contests(tests: pd.DataFrame, main: Sequence[str]) -> Iterator[tuple[dict[str, Any], str, pd.DataFrame]]:
    for values, part in tests.groupby(FAMILY, sort=False):
        key = dict(zip(FAMILY, values, strict=True)) | {"proposed": part["proposed"].iloc[0]}
        of_main = part[part["rival"].map(lambda rival: main_name(rival, main) is not None)]
        if len(of_main):
            yield key, "main", of_main
        yield key, "all", part


def _judged(part: pd.DataFrame) -> dict[str, Any]:
    tested = part.dropna(subset=["difference"])
    untested = sorted(set(part["rival"]) - set(tested["rival"]))
    notes = [f"not tested: {', '.join(untested)}"] * bool(untested)
    if tested.empty:
        return {"verdict": "missing", "note": "; ".join(notes)}
    for name in ("p_bootstrap", "p_mapsswe"):
        tested[f"{name}_holm"] = holm(tested[name])
    best = tested.iloc[int(tested["rival_wer"].argmin())]
    incomplete = tested.loc[tested["missing"] > 0, "rival"]
    notes += [f"incomplete: {', '.join(incomplete)}"] * bool(len(incomplete))
    notes += [f"by utterances for want of speakers ({best['drawn']})"] * ("utterances" in best["drawn"])
    significant = max(best["p_bootstrap_holm"], best["p_mapsswe_holm"]) < LEVEL
    at_worst = best["high"] / best["rival_wer"] if best["rival_wer"] > 0 else float("nan")
    return {
        "best_rival": best["rival"],
        **{name: best[name] for name in _COPIED},
        "significant": bool(significant),
        "not_worse": bool(best["low"] <= 0),
        "at_worst": at_worst,
        "non_inferior": bool(at_worst <= MARGIN),
        "verdict": _worded(best["difference"], significant),
        "note": "; ".join(notes),
    }


def _worded(difference: float, significant: bool) -> str:
    if difference == 0:
        return "equal"
    side = "better" if difference < 0 else "worse"
    return f"significantly {side}" if significant else f"{side}, not significantly"
