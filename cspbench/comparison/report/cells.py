"""What each method reached at each sparsity, with what that cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from cspbench.comparison.report.word_errors import TrialErrors, error_rate
from cspbench.report.bootstrap import crossed_bootstrap

TRAINED, POST = "trained", "post-training"

CELLS = [
    *("corpus", "kind", "method", "sparsity_requested", "wer", "wer_low", "wer_high", "wer_std", "dev_wer"),
    *("dense_wer", "seeds", "folds", "trials", "missing", "steps", "steps_ratio", "train_seconds"),
    *("tuning_trials", "drawn", "note"),
]
"""Columns of a `cell_table`."""


def kinds(frame: pd.DataFrame) -> pd.Series:
    """ "post-training" for methods that made no step (or, before one has finished, are named so), else "trained"."""
    done = frame[frame["state"] == "complete"]
    most = done.groupby("method")["steps"].max()
    post = {
        method: most[method] == 0 if method in most else str(method).endswith("_post")
        for method in frame["method"].unique()
    }
    return frame["method"].map(lambda method: POST if post[method] else TRAINED)


def grid(finals: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame, int]]:
    """Every cell there ought to be: each method of a corpus and kind at each sparsity of that kind.

    Yields:
        The cell's key (corpus, kind, method, sparsity_requested), its trials, finished or not, and how many there
        ought to be: a trial for each seed and fold that any method of the corpus and kind has.
    """
    for kind, alike in finals.groupby("kind", sort=False):
        for corpus in sorted(alike["corpus"].unique()):
            here = alike[alike["corpus"] == corpus]
            due = len(here[["fold", "seed"]].drop_duplicates())
            for method in sorted(alike["method"].unique()):
                for sparsity in sorted(alike["sparsity_requested"].unique()):
                    cell = here[(here["method"] == method) & (here["sparsity_requested"] == sparsity)]
                    yield {"corpus": corpus, "kind": kind, "method": method, "sparsity_requested": sparsity}, cell, due


def cell_table(finals: pd.DataFrame, errors: TrialErrors, proposed: str, *, resamples: int = 10_000) -> pd.DataFrame:
    """Tabulate what each method reached.

    Args:
        finals: trials of a `Evaluation`.
        errors: word errors of the finished ones.
        proposed: method whose training run is the measure of steps.
        resamples: draws of each interval.

    Returns:
        One row a corpus, kind, method and sparsity:

        - ``wer`` on test: errors over words, the mean over seeds, all folds added up;
        - ``wer_low, wer_high``: 95 % bootstrap interval over speakers and seeds, both drawn anew (see
          `crossed_bootstrap`); ``drawn`` says so, or that utterances are drawn for want of speakers. Intervals of
          methods overlap where paired tests tell them apart: they share the speech;
        - ``wer_std``: standard deviation over seeds of the WER of all folds together; NaN for one seed, and where each
          fold has a seed of its own;
        - ``dev_wer``, on which settings were chosen, and ``dense_wer``: means over trials;
        - ``seeds, folds, trials`` finished, ``missing`` trials, ``note`` on them;
        - ``steps``, ``train_seconds``: means over trials; ``steps_ratio``: steps over those of the proposed method's
          pruning run on the same corpus and fold (3 for a lottery ticket of three rounds);
        - ``tuning_trials``: how many dev trials chose the setting.
    """
    ratio = steps_ratio(finals, proposed)
    rows = []
    for key, cell, due in grid(finals):
        done = cell[cell["state"] == "complete"]
        corpora = [str(key["corpus"])]
        blocks = errors.blocks(done, errors.by_speaker(corpora))
        interval = (float("nan"), float("nan"))
        if blocks:
            parts = ([block.edits for block in blocks], [block.utterances.words for block in blocks])
            interval = crossed_bootstrap(*parts, [block.groups.tolist() for block in blocks], resamples=resamples)
        rows.append(
            {
                **key,
                "wer": error_rate(blocks),
                "wer_low": interval[0],
                "wer_high": interval[1],
                "wer_std": _seed_std(done, errors),
                **{name: float(done[name].mean()) for name in ("dev_wer", "dense_wer", "steps", "train_seconds")},
                "steps_ratio": float(ratio[done.index].mean()),
                "tuning_trials": float(cell["tuning_trials"].max()) if len(cell) else float("nan"),
                **{"seeds": done["seed"].nunique(), "folds": done["fold"].nunique()},
                **{"trials": len(done), "missing": due - len(done)},
                "drawn": errors.drawn(corpora),
                "note": missing_note(cell, due),
            }
        )
    return pd.DataFrame(rows, columns=CELLS)


def steps_ratio(finals: pd.DataFrame, proposed: str) -> pd.Series:
    """Steps of each trial over the proposed method's on the same corpus and fold; NaN where unknown."""
    own = finals[(finals["method"] == proposed) & (finals["state"] == "complete")]
    budget = own.groupby(["corpus", "fold"])["steps"].median()
    places = pd.MultiIndex.from_frame(finals[["corpus", "fold"]])
    return finals["steps"].astype(float) / budget.reindex(places).set_axis(finals.index)


def missing_note(cell: pd.DataFrame, due: int) -> str:
    """What is wrong with a cell, in words: ``"2 of 9 trials missing: 1 failed, 1 not run"``; empty if nothing is."""
    states = cell.loc[cell["state"] != "complete", "state"].value_counts()
    absent = due - len(cell)
    parts = [f"{count} {state}" for state, count in states.items()] + [f"{absent} not run"] * (absent > 0)
    return f"{states.sum() + absent} of {due} trials missing: {', '.join(parts)}" if parts else ""


def _seed_std(done: pd.DataFrame, errors: TrialErrors) -> float:
    """Standard deviation over the seeds that were run on every fold of the cell: others differ by their speech too."""
    folds = done.groupby("seed")["fold"].nunique()
    whole = folds.index[folds == done["fold"].nunique()]
    rates = [error_rate(errors.blocks(done[done["seed"] == seed])) for seed in whole]
    return float(pd.Series(rates, dtype=float).std())
