"""Paired tests of the proposed method against each rival, by corpus and over all corpora together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cspbench.comparison.config import CONTROL
from cspbench.comparison.report.cells import POST
from cspbench.comparison.report.word_errors import (
    RUN,
    Block,
    TrialErrors,
    clusters,
    difference,
    error_rate,
    mean_errors,
    speakers,
    totals,
    words,
)
from cspbench.report.bootstrap import Floats, crossed_bootstrap, paired_bootstrap
from cspbench.report.significance import holm, mapsswe, sign_flip

POOLED = "pooled"
"""Stands for all corpora together."""

SCOPE = ["corpus", "kind", "budget", "sparsity_requested"]
"""Columns that say where two methods are compared."""

P_VALUES = ("p_exact", "p_bootstrap", "p_mapsswe")

TESTS = [
    *(*SCOPE, "proposed", "rival", "proposed_wer", "rival_wer", "relative_reduction", "difference", "low", "high"),
    *("p_floor", *(f"{name}{suffix}" for name in P_VALUES for suffix in ("", "_holm")), "z_mapsswe"),
    *("models_low", "models_high", "models_won", "models", "wins", "pairs", "missing"),
    *("segments", "words", "drawn", "note"),
]
"""Columns of a `paired_test_table`."""


def paired_test_table(
    finals: pd.DataFrame, errors: TrialErrors, proposed: str, *, resamples: int = 10_000
) -> pd.DataFrame:
    """Test the proposed method against each rival.

    Runs are compared in pairs: same fold, dense model and seed, hence the same speech; a run whose partner is missing
    takes no part, and is counted. Over all corpora together, errors and words add up, so that a corpus weighs as many
    words as it has; the bootstrap draws within each corpus (in all at once if one has a single speaker).

    Args:
        finals: trials of an `Evaluation`.
        errors: word errors of the finished ones.
        proposed: method under test; ``<proposed>_post`` among the post-training methods.
        resamples: draws of each bootstrap.

    Returns:
        One row a corpus (or "pooled", where there are several), kind, budget, sparsity and rival:

        - ``proposed_wer, rival_wer`` on test over the pairs; ``difference``: the proposed method's minus the rival's,
          negative favours the proposed method; ``relative_reduction`` = -difference / rival_wer: positive favours it;
        - ``p_exact``: exact sign-flip test by speaker (`sign_flip`); by cluster if there is a single speaker;
        - ``low, high, p_bootstrap``: 95 % interval and p-value of the difference by the paired, studentised bootstrap
          over what ``drawn`` says: speakers, or utterances for want of speakers (see `FEWEST_SPEAKERS`);
        - ``z_mapsswe, p_mapsswe``: matched-pairs test over ``segments``: the clusters of utterances, see `Utterances`;
        - ``p_floor``: smallest p-value that so many speakers can give; no p-value of the row is below it;
        - ``p_…_holm``: corrected over all rows of the kind: one table, one family;
        - ``models_low, models_high``: 95 % interval of the difference with dense models redrawn beside speakers
          (pruning runs, if all prune one model); ``models_won`` of the dense ``models`` (times folds), by the mean over
          their pruning runs; ties count half, here and below;
        - ``wins`` of the proposed method among the ``pairs`` of runs, ``missing`` pairs, ``words`` of the test set,
          ``note``.
    """
    finals = finals[finals["method"] != CONTROL]
    rows = []
    for key, scope in _scopes(finals):
        ours = proposed if key["kind"] != POST else f"{proposed}_post"
        for rival in sorted(set(scope.loc[scope["here"], "method"]) - {ours}):
            rows.append({**key, "proposed": ours, "rival": rival} | _paired_test(scope, errors, ours, rival, resamples))
    table = pd.DataFrame(rows, columns=TESTS)
    for name in P_VALUES:
        table[f"{name}_holm"] = table.groupby("kind")[name].transform(holm) if rows else table[name]
    return table


def _scopes(finals: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Trials of each kind, budget and sparsity, by corpus and, where there are several, together.

    All trials of the kind and corpora stay in view, marked by the column ``here``, so that a corpus without any trial
    of a method at a sparsity is known to lack it.
    """
    for kind, alike in finals.groupby("kind", sort=False):
        corpora = sorted(alike["corpus"].unique())
        scopes = [(corpus, alike[alike["corpus"] == corpus]) for corpus in corpora]
        if len(corpora) > 1:
            scopes.append((POOLED, alike))
        at = alike[["budget", "sparsity_requested"]].drop_duplicates().sort_values(["budget", "sparsity_requested"])
        for corpus, scope in scopes:
            for budget, sparsity in at.itertuples(index=False):
                here = (scope["budget"] == budget) & (scope["sparsity_requested"] == sparsity)
                if here.any():
                    key = {"corpus": corpus, "kind": kind, "budget": budget, "sparsity_requested": sparsity}
                    yield key, scope.assign(here=here)


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
    models_low, models_high = crossed_bootstrap(
        [block.replicates() for block in apart],
        [block.utterances.words for block in apart],
        groups,
        strata,
        resamples=resamples,
    )
    gap = paired.difference if abs(paired.difference) > 1e-12 else 0.0  # means over seeds tie but for rounding
    by_run = np.concatenate([block.edits.sum(axis=1) for block in apart])
    by_model = np.concatenate([block.per_model().sum(axis=1) for block in apart])
    rate = error_rate(rivals)
    return {
        **{"proposed_wer": error_rate(ours), "rival_wer": rate},
        "relative_reduction": 0.0 - gap / rate if rate > 0 else float("nan"),
        **{"difference": gap, "low": paired.low, "high": paired.high},
        **_p_values(ours, a, b, paired.p_value),
        **{"models_low": models_low, "models_high": models_high},
        **{"models_won": _won(by_model), "models": len(by_model), "wins": _won(by_run)},
        "words": int(reference.sum()),
    }


def _p_values(blocks: Sequence[Block], ours: Floats, rivals: Floats, p_bootstrap: float) -> dict[str, Any]:
    """p-values of the three tests, none below what the speakers can resolve."""
    own, names = clusters(blocks), speakers(blocks)
    exact = sign_flip(ours, rivals, names if len(set(names)) > 1 else own)
    matched = mapsswe(totals(ours, own), totals(rivals, own)) if len(set(own)) > 1 else None
    return {
        "p_floor": exact.floor,
        "p_exact": exact.p_value,
        "p_bootstrap": max(p_bootstrap, exact.floor),
        "p_mapsswe": max(matched.p_value, exact.floor) if matched is not None else float("nan"),
        "z_mapsswe": matched.z if matched is not None else float("nan"),
        "segments": len(set(own)),
    }


def _won(differences: Floats) -> float:
    """Number of negative differences; ties count half."""
    ties = np.isclose(differences, 0, atol=1e-9)
    return float((differences[~ties] < 0).sum() + ties.sum() / 2)


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
