"""The tables of a comparison: what each method reached, and whether the proposed method beat its rivals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from cspbench.comparison.report.cells import POST, TRAINED, cell_table, kinds
from cspbench.comparison.report.costs import cost_table
from cspbench.comparison.report.paired_tests import paired_test_table
from cspbench.comparison.report.verdicts import MAIN, verdict_table
from cspbench.comparison.report.word_errors import ComparisonError, Hypotheses, TrialErrors

COLUMNS = [
    *("corpus", "method", "sparsity_requested", "seed", "fold", "dense_id", "trial_id", "state"),
    *("dev_wer", "wer", "dense_wer", "steps", "train_seconds", "params", "tuning_trials"),
]
"""What a final trial must say of itself."""


@dataclass(frozen=True)
class Evaluation:
    """What came out. All word error rates, differences and reductions are fractions.

    Attributes:
        proposed: the method under test; with ``_post`` behind its name among the post-training methods.
        finals: the trials, one row each: `COLUMNS`, ``fold`` -1 where the corpus has a test set of its own, ``kind``,
            "trained" or "post-training", and ``words`` of the trial's test set.
        cells: what each method reached, see `cell_table`.
        tests: the proposed method against each rival, see `paired_test_table`.
        verdicts: the proposed method against the best rival, see `verdict_table`.
        costs: what each method was given, see `cost_table`.
        errors: word errors the tests were made from; None if read back from tables.
    """

    proposed: str
    finals: pd.DataFrame
    cells: pd.DataFrame
    tests: pd.DataFrame
    verdicts: pd.DataFrame
    costs: pd.DataFrame
    errors: TrialErrors | None = None


def evaluate_finals(
    frame: pd.DataFrame,
    hypotheses: Hypotheses,
    proposed: str = "csp",
    rivals: Sequence[str] | None = None,
    *,
    main: Sequence[str] = MAIN,
    resamples: int = 10_000,
) -> Evaluation:
    """Compare methods by their final trials: settings were chosen on dev before, nothing is chosen here.

    How several seeds enter: the errors of an utterance are averaged over the seeds before anything is tested, so the
    unit of every test stays the utterance or the speaker. Seeds are not independent repeats: all hear the same test
    utterances, and counting each as a new one would make p-values small that ought not to be. What a test then says is
    that these trained models differ on speech like this; the columns ``seeds_low`` and ``seeds_high`` redraw training
    seeds too, and ``wins`` counts the pairs of runs (same seed, fold and dense model) that the proposed method won.

    How folds enter: each utterance is tested in one fold, so utterances of different folds are different units and
    add up to one large test set; a speaker stays one group wherever it occurs.

    Nothing is left out in silence: trials that did not finish are counted in ``missing`` columns and named in notes,
    and a method's cell that nobody ran has a row that says so.

    Args:
        frame: the final trials, one row each, with `COLUMNS`; ``state`` is "complete" for the finished ones, ``fold``
            may be NaN. A post-training method is one whose trials made no step; until one has finished, one named
            ``…_post``.
        hypotheses: gives the test utterances of a finished trial.
        proposed: method under test. Post-training methods are compared with ``<proposed>_post``.
        rivals: methods to compare it with; None: all others.
        main: the rivals a claim is made against; ``<name>_…`` counts as ``<name>``.
        resamples: draws of each bootstrap.

    Raises:
        ComparisonError: columns missing, no trial of the proposed method, two trials of one cell, fold and seed, or
            trials of one corpus that were tested on different utterances.
    """
    finals = _checked(frame, proposed)
    if rivals is not None:
        finals = finals[finals["method"].isin({proposed, f"{proposed}_post", *rivals})]
    errors = TrialErrors.read(finals, hypotheses)
    finals["words"] = [errors.words_of(trial) for trial in finals["trial_id"]]
    tests = paired_test_table(finals, errors, proposed, resamples=resamples)
    return Evaluation(
        proposed=proposed,
        finals=finals,
        cells=cell_table(finals, errors, proposed, resamples=resamples),
        tests=tests,
        verdicts=verdict_table(tests, main),
        costs=cost_table(finals, proposed),
        errors=errors,
    )


def _checked(frame: pd.DataFrame, proposed: str) -> pd.DataFrame:
    """The trials in order, with `fold` a number and `kind`."""
    lacking = [column for column in COLUMNS if column not in frame]
    if lacking:
        raise ComparisonError(f"the trials to compare lack {', '.join(lacking)}")
    if proposed not in set(frame["method"]):
        raise ComparisonError(
            f"no trial of '{proposed}' to compare (methods: {', '.join(sorted(set(frame['method'])))})"
        )
    finals = frame.assign(fold=frame["fold"].astype(float).fillna(-1).astype(int), kind=kinds(frame))
    order = ["corpus", "method", "sparsity_requested", "fold", "seed"]
    twice = finals[finals.duplicated(order)]
    if len(twice):
        row = twice.iloc[0]
        raise ComparisonError(
            f"{row['corpus']}: two final trials of {row['method']} at {100 * row['sparsity_requested']:g} % with seed "
            f"{row['seed']}: a cell has one setting, chosen on dev"
        )
    trained_first = finals["kind"].map({TRAINED: 0, POST: 1})
    return (
        finals.assign(_kind=trained_first).sort_values(["_kind", *order]).drop(columns="_kind").reset_index(drop=True)
    )
