"""Table of cells: what each method reached at each sparsity and budget, with what that cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from cspbench.comparison.config import CONTROL
from cspbench.comparison.report.word_errors import Block, TrialErrors, error_rate
from cspbench.report.bootstrap import crossed_bootstrap

TRAINED, POST = "trained", "post-training"

CELL = ["corpus", "kind", "budget", "sparsity_requested", "method"]
"""Columns that name a cell."""

MEANS = ["dev_wer", "dev_loss", "test_cer", "test_loss", "dense_wer", "steps"]

KINDS = ["substitutions", "deletions", "insertions"]
"""Kinds of word errors; in a cell fractions of the reference words."""

CELLS = [
    *(*CELL, "test_wer", "low", "high", "std_dense", "std_seeds", *KINDS, *MEANS, "train_seconds", "steps_ratio"),
    *("dense_models", "seeds", "folds", "trials", "missing", "tuning_trials", "selection", "drawn", "note"),
]
"""Columns of a `cell_table`."""


def kinds(frame: pd.DataFrame) -> pd.Series:
    """Kind of each trial: "post-training" for methods that made no step, else "trained".

    Before a trial of a method has finished, a name that ends in ``_post`` tells.
    """
    done = frame[frame["state"] == "complete"]
    most = done.groupby("method")["steps"].max()
    post = {
        method: most[method] == 0 if method in most else str(method).endswith("_post")
        for method in frame["method"].unique()
    }
    return frame["method"].map(lambda method: POST if post[method] else TRAINED)


def with_control(finals: pd.DataFrame) -> pd.DataFrame:
    """Trials with those of the control, which has no sparsity, repeated at every sparsity of its corpus and budget."""
    control = finals["method"] == CONTROL
    trained = finals[~control & (finals["kind"] == TRAINED)]
    grid = trained[["corpus", "budget", "sparsity_requested"]].drop_duplicates()
    repeated = finals[control].drop(columns="sparsity_requested").merge(grid, on=["corpus", "budget"])
    return pd.concat([finals[~control], repeated], ignore_index=True)


def cells_of(finals: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame, int]]:
    """Every cell that was planned.

    Yields:
        The cell's key (see `CELL`), its trials, finished or not, and how many there ought to be: a trial for each
        fold, dense seed and seed that any method has on the corpus.
    """
    due = {
        str(corpus): len(own[["fold", "dense_seed", "seed"]].drop_duplicates())
        for corpus, own in finals.groupby("corpus")
    }
    for values, cell in finals.groupby(CELL, sort=True):
        key = dict(zip(CELL, values, strict=True))
        yield key, cell, due[str(key["corpus"])]


def cell_table(finals: pd.DataFrame, errors: TrialErrors, proposed: str, *, resamples: int = 10_000) -> pd.DataFrame:
    """Tabulate what each method reached.

    Args:
        finals: trials of an `Evaluation`.
        errors: word errors of the finished ones.
        proposed: method whose training run is the measure of steps.
        resamples: draws of each interval.

    Returns:
        One row a corpus, kind, budget, sparsity and method; the control stands beside every sparsity:

        - ``test_wer``: errors over words, the mean over the pruning runs of a dense model, then over dense models, all
          folds added up;
        - ``low, high``: 95 % bootstrap interval over speakers and dense models, both drawn anew (see
          `crossed_bootstrap`; pruning runs are drawn if all prune one dense model); ``drawn`` says which speakers, or
          that utterances are drawn for want of speakers. Intervals of methods overlap where paired tests tell them
          apart: they share the speech;
        - ``std_dense``: standard deviation over dense models of the WER averaged over their pruning runs;
          ``std_seeds``: that over pruning runs of one dense model, pooled over models. Both are of all folds together,
          and NaN where there is one run, or where each fold has a seed of its own;
        - ``substitutions, deletions, insertions``: over words, of all trials together;
        - ``dev_wer, dev_loss, test_cer, test_loss, dense_wer, steps``: means over trials; ``train_seconds``: their
          median, as other work on the machine lengthens single trials;
        - ``steps_ratio``: steps over those of the proposed method's run on the same corpus, fold and budget;
        - ``dense_models``, ``seeds`` of pruning runs, ``folds``, ``trials`` finished, ``missing`` trials, ``note``;
        - ``tuning_trials``: dev trials that the setting was chosen from, ``selection``: how that ended.
    """
    ratio = steps_ratio(finals, proposed)
    finals = with_control(finals.assign(steps_ratio=ratio))
    rows = []
    for key, cell, due in cells_of(finals):
        done = cell[cell["state"] == "complete"]
        corpora = [str(key["corpus"])]
        blocks = errors.blocks(done, errors.by_speaker(corpora))
        low, high = _interval(blocks, resamples) if blocks else (float("nan"), float("nan"))
        std_dense, std_seeds = _spreads(done, errors)
        rows.append(
            {
                **key,
                **{"test_wer": error_rate(blocks), "low": low, "high": high},
                **{"std_dense": std_dense, "std_seeds": std_seeds},
                **{name: _ratio(done[name], done["words"]) for name in KINDS},
                **{name: float(done[name].astype(float).mean()) for name in [*MEANS, "steps_ratio"]},
                "train_seconds": float(done["train_seconds"].astype(float).median()),
                **{"dense_models": done["dense_seed"].nunique(), "seeds": done["seed"].nunique()},
                **{"folds": done["fold"].nunique(), "trials": len(done), "missing": due - len(done)},
                "tuning_trials": float(cell["tuning_trials"].max()),
                "selection": str(cell["selection"].iloc[0]),
                "drawn": errors.drawn(corpora),
                "note": missing_note(cell, due),
            }
        )
    return pd.DataFrame(rows, columns=CELLS)


def steps_ratio(finals: pd.DataFrame, proposed: str) -> pd.Series:
    """Steps of each trial over the proposed method's on the same corpus, fold and budget; NaN where unknown."""
    own = finals[(finals["method"] == proposed) & (finals["state"] == "complete")]
    columns = ["corpus", "fold", "budget"]
    steps = own.groupby(columns)["steps"].median()
    return finals["steps"].astype(float) / steps.reindex(pd.MultiIndex.from_frame(finals[columns])).set_axis(
        finals.index
    )


def missing_note(cell: pd.DataFrame, due: int) -> str:
    """Trials that a cell lacks, in words: ``"2 of 9 trials missing: 1 failed, 1 not run"``; empty if it lacks none."""
    states = cell.loc[cell["state"] != "complete", "state"].value_counts()
    absent = due - len(cell)
    parts = [f"{count} {state}" for state, count in states.items()] + [f"{absent} not run"] * (absent > 0)
    return f"{states.sum() + absent} of {due} trials missing: {', '.join(parts)}" if parts else ""


def _ratio(counts: pd.Series, words: pd.Series) -> float:
    return float(counts.astype(float).sum(min_count=1)) / float(words.sum()) if len(counts) else float("nan")


def _interval(blocks: list[Block], resamples: int) -> tuple[float, float]:
    edits, words = [block.replicates() for block in blocks], [block.utterances.words for block in blocks]
    return crossed_bootstrap(edits, words, [block.groups.tolist() for block in blocks], resamples=resamples)


def _spreads(done: pd.DataFrame, errors: TrialErrors) -> tuple[float, float]:
    """Standard deviations over dense models and over the pruning runs of one, of runs made on every fold."""
    folds = done.groupby(["dense_seed", "seed"])["fold"].nunique()
    whole = folds.index[folds == done["fold"].nunique()]
    rates: dict[int, list[float]] = {}
    for model, seed in whole:
        own = done[(done["dense_seed"] == model) & (done["seed"] == seed)]
        rates.setdefault(model, []).append(error_rate(errors.blocks(own)))
    repeated = [np.var(own, ddof=1) for own in rates.values() if len(own) > 1]
    means = pd.Series([np.mean(own) for own in rates.values()], dtype=float)
    return float(means.std()), float(np.sqrt(np.mean(repeated))) if repeated else float("nan")
