"""The proposed method against each rival: paired tests at equal sparsity, by corpus and over all corpora together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cspbench.comparison.report.cells import POST
from cspbench.comparison.report.word_errors import RUN, Block, TrialErrors, difference, error_rate, mean_errors, words
from cspbench.report.bootstrap import crossed_bootstrap, paired_bootstrap
from cspbench.report.significance import holm, mapsswe

POOLED = "pooled"
"""Stands for all corpora together."""

FAMILY = ["corpus", "kind", "sparsity_requested"]
"""Tests that are corrected together: all rivals at one sparsity of one corpus (or of the pool)."""

TESTS = [
    *("corpus", "kind", "sparsity_requested", "proposed", "rival", "proposed_wer", "rival_wer"),
    *("relative_reduction", "difference", "low", "high", "p_bootstrap", "p_bootstrap_holm"),
    *("z_mapsswe", "p_mapsswe", "p_mapsswe_holm", "seeds_low", "seeds_high", "wins", "pairs", "missing"),
    *("segments", "words", "drawn", "note"),
]
"""Columns of a `paired_test_table`."""


def paired_test_table(
    finals: pd.DataFrame, errors: TrialErrors, proposed: str, *, resamples: int = 10_000
) -> pd.DataFrame:
    """Test the proposed method against each rival.

    Runs are compared in pairs: same seed, same fold, hence the same dense model and speech; a run whose partner is
    missing takes no part, and is counted. Over all corpora together, errors and words add up, so that a corpus weighs
    as many words as it has; the bootstrap draws within each corpus (in all at once if one has a single speaker).

    Args:
        finals: trials of a `Evaluation`.
        errors: word errors of the finished ones.
        proposed: method under test; ``<proposed>_post`` among the post-training methods.
        resamples: draws of each bootstrap.

    Returns:
        One row a corpus (or "pooled", where there are several), kind, sparsity and rival:

        - ``proposed_wer, rival_wer`` on test over the pairs; ``difference``: the proposed method's minus the rival's,
          negative favours the proposed method; ``relative_reduction`` = -difference / rival_wer: positive favours it;
        - ``low, high, p_bootstrap``: 95 % interval and p-value of the difference by the paired, studentised bootstrap
          over what ``drawn`` says: speakers, or utterances for want of speakers (see `FEWEST_SPEAKERS`);
        - ``z_mapsswe, p_mapsswe``: matched-pairs test over ``segments``, which are the utterances: each was recorded
          apart (or joined from recordings), so errors of one cannot spill into the next;
        - ``p_…_holm``: corrected over the rivals of the same row of `FAMILY` that could be tested;
        - ``seeds_low, seeds_high``: 95 % interval of the difference with training seeds redrawn beside speakers;
        - ``wins`` of the proposed method among the ``pairs`` of runs (ties count half), ``missing`` pairs,
          ``words`` of the test set, ``note``.
    """
    rows = []
    for key, scope in _scopes(finals):
        ours = proposed if key["kind"] != POST else f"{proposed}_post"
        for rival in sorted(set(scope["method"]) - {ours}):
            rows.append({**key, "proposed": ours, "rival": rival} | _paired_test(scope, errors, ours, rival, resamples))
    table = pd.DataFrame(rows, columns=TESTS)
    for name in ("p_bootstrap", "p_mapsswe"):
        table[f"{name}_holm"] = table.groupby(FAMILY)[name].transform(holm) if rows else table[name]
    return table


def _scopes(finals: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Trials of each kind and sparsity, by corpus and, where there are several, together."""
    for kind, alike in finals.groupby("kind", sort=False):
        corpora = sorted(alike["corpus"].unique())
        scopes = [(corpus, alike[alike["corpus"] == corpus]) for corpus in corpora]
        if len(corpora) > 1:
            scopes.append((POOLED, alike))
        for corpus, scope in scopes:
            for sparsity in sorted(alike["sparsity_requested"].unique()):
                # All methods of the kind stay in view, so that one without trials here is said to have none.
                yield (
                    {"corpus": corpus, "kind": kind, "sparsity_requested": sparsity},
                    scope.assign(here=scope["sparsity_requested"] == sparsity),
                )


def _paired_test(scope: pd.DataFrame, errors: TrialErrors, ours: str, rival: str, resamples: int) -> dict[str, Any]:
    """Measures of one row; NaN where there is no pair, or where a corpus of the pool has none."""
    ours_blocks: list[Block] = []
    rival_blocks: list[Block] = []
    due, without = 0, []
    corpora = sorted(scope["corpus"].unique())
    by_speaker = errors.by_speaker(corpora)
    for corpus, part in scope.groupby("corpus", sort=True):
        due += len(part[RUN].drop_duplicates())
        done = part[part["here"] & (part["state"] == "complete")]
        first, second = _partners(done, ours, rival)
        if first.empty:
            without.append(str(corpus))
            continue
        ours_blocks += errors.blocks(first, by_speaker)
        rival_blocks += errors.blocks(second, by_speaker)
    pairs = sum(len(block.edits) for block in ours_blocks)
    counts = {"pairs": pairs, "missing": due - pairs, "note": _note(scope, ours, rival, due - pairs, without)}
    if without:
        return counts
    return counts | {"drawn": errors.drawn(corpora)} | _tested(ours_blocks, rival_blocks, resamples)


def _tested(ours: Sequence[Block], rivals: Sequence[Block], resamples: int) -> dict[str, Any]:
    a, b, reference = mean_errors(ours), mean_errors(rivals), words(ours)
    groups = [block.groups.tolist() for block in ours]
    strata = _strata(ours)
    paired = paired_bootstrap(
        a,
        b,
        reference,
        groups=[name for block in groups for name in block],
        strata=[corpus for corpus, block in zip(strata, groups, strict=True) for _ in block],
        studentised=True,
        resamples=resamples,
    )
    apart = difference(ours, rivals)
    low, high = crossed_bootstrap(
        [block.edits for block in apart],
        [block.utterances.words for block in apart],
        groups,
        strata,
        resamples=resamples,
    )
    matched = mapsswe(a, b)
    gap = paired.difference if abs(paired.difference) > 1e-12 else 0.0  # means over seeds tie but for rounding
    by_run = np.concatenate([block.edits.sum(axis=1) for block in apart])
    rate = error_rate(rivals)
    return {
        **{"proposed_wer": error_rate(ours), "rival_wer": rate},
        "relative_reduction": 0.0 - gap / rate if rate > 0 else float("nan"),
        **{"difference": gap, "low": paired.low, "high": paired.high},
        "p_bootstrap": paired.p_value,
        **{"z_mapsswe": matched.z, "p_mapsswe": matched.p_value, "segments": matched.segments},
        **{"seeds_low": low, "seeds_high": high},
        "wins": float((by_run < 0).sum() + (by_run == 0).sum() / 2),
        "words": int(reference.sum()),
    }


def _strata(blocks: Sequence[Block]) -> list[str]:
    """The corpus of each block, within which is drawn; a corpus of one speaker has no spread: then all are one."""
    corpora = [block.utterances.corpus for block in blocks]
    units: dict[str, set[str]] = {}
    for corpus, block in zip(corpora, blocks, strict=True):
        units.setdefault(corpus, set()).update(block.groups)
    return corpora if all(len(names) > 1 for names in units.values()) else ["all"] * len(corpora)


def _partners(done: pd.DataFrame, ours: str, rival: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs of both methods that have a partner in the other."""
    first, second = (done[done["method"] == method] for method in (ours, rival))
    runs, others = (list(zip(*(side[name] for name in RUN), strict=True)) for side in (first, second))
    common = set(runs) & set(others)
    return first[[run in common for run in runs]], second[[run in common for run in others]]


def _note(scope: pd.DataFrame, ours: str, rival: str, missing: int, without: list[str]) -> str:
    if not missing:
        return ""
    lacking = []
    for method in (ours, rival):
        cell = scope[scope["here"] & (scope["method"] == method)]
        finished, due = int((cell["state"] == "complete").sum()), len(scope[["corpus", *RUN]].drop_duplicates())
        if finished < due:
            lacking.append(f"{method} has {finished} of {due} trials")
    nothing = f"; nothing to test on {', '.join(without)}" if without else ""
    return ", ".join(lacking) + nothing
