"""Evaluation of a comparison: from its final trials to all tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cspbench.comparison.config import CONTROL
from cspbench.comparison.report.cells import KINDS, POST, TRAINED, cell_table, kinds
from cspbench.comparison.report.costs import cost_table
from cspbench.comparison.report.paired_tests import paired_test_table
from cspbench.comparison.report.verdicts import verdict_table
from cspbench.comparison.report.word_errors import ComparisonError, Hypotheses, TrialErrors

COLUMNS = [
    *("corpus", "method", "division", "sparsity_requested", "budget", "dense_seed", "seed", "fold", "dense_id"),
    *("trial_id", "state", "dev_wer", "dev_loss", "test_wer", "test_cer", "test_loss", *KINDS, "dense_wer"),
    *("steps", "train_seconds", "learning_rate", "params", "selection", "tuning_trials"),
]
"""Columns that the table of final trials must have."""

LAYERS = ["corpus", "method", "sparsity_requested", "budget", "layer", "density", "trials"]
"""Columns of layer densities."""


@dataclass(frozen=True)
class Evaluation:
    """Tables that follow from the final trials. Word error rates, differences and reductions are fractions.

    Attributes:
        proposed: the method under test; with ``_post`` behind its name among the post-training methods.
        finals: the trials, one row each: `COLUMNS`, ``fold`` -1 where the corpus has a test set of its own, ``kind``,
            "trained" or "post-training", and ``words`` of the trial's test set.
        cells: what each method reached, see `cell_table`.
        tests: the proposed method against each rival, see `paired_test_table`.
        verdicts: the proposed method against the best rival, see `verdict_table`.
        costs: what each method was given, see `cost_table`.
        layers: density of each weight matrix by cell, with the columns `LAYERS`; may be empty.
        errors: word errors the tests were made from; None if read back from tables.
    """

    proposed: str
    finals: pd.DataFrame
    cells: pd.DataFrame
    tests: pd.DataFrame
    verdicts: pd.DataFrame
    costs: pd.DataFrame
    layers: pd.DataFrame
    errors: TrialErrors | None = None

    @property
    def corpora(self) -> str:
        """All corpora, as titles have them."""
        return ", ".join(map(self.named, sorted(self.finals["corpus"].unique())))

    def named(self, corpus: str) -> str:
        """The corpus as titles have it: synthetic speech is never passed off as people's."""
        own = self.finals[self.finals["corpus"] == corpus]
        synthetic = "synthetic" in own and own["synthetic"].eq(True).any()
        return f"{corpus} (synthetic speech)" if synthetic else corpus


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table: column -> value."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def evaluate_finals(
    frame: pd.DataFrame,
    hypotheses: Hypotheses,
    proposed: str = "csp",
    rivals: Sequence[str] | None = None,
    *,
    layers: pd.DataFrame | None = None,
    resamples: int = 10_000,
) -> Evaluation:
    """Compare methods by their final trials: settings were chosen on dev before, nothing is chosen here.

    The unit of replication is the dense model. Errors of an utterance are averaged over the pruning runs of a dense
    model, then over dense models, before anything is tested; the unit of every test stays the speaker (or utterance).
    Runs are no independent repeats: all are tested on the same utterances, and counting each as new speech would make
    p-values small that ought not to be. A test thus says that these trained models differ on speech like this; the
    columns ``models_low`` and ``models_high`` redraw dense models too, and ``models_won`` counts those that the
    proposed method won. The spread over dense models and that over pruning runs of one model stand apart in the cells.

    Each utterance is tested in one fold, so utterances of different folds add up to one large test set; a speaker stays
    one group wherever it occurs.

    Nothing is left out in silence: trials that did not finish are counted in ``missing`` columns and named in notes.

    Args:
        frame: the final trials, one row each, with `COLUMNS`; ``state`` is "complete" for the finished ones, ``fold``
            may be NaN. A post-training method is one whose trials made no step; until one has finished, one named
            ``…_post``.
        hypotheses: gives the test utterances of a finished trial.
        proposed: method under test. Post-training methods are compared with ``<proposed>_post``.
        rivals: methods to compare it with; None: all others.
        layers: density of each weight matrix by cell, with the columns `LAYERS`.
        resamples: draws of each bootstrap.

    Raises:
        ComparisonError: columns missing, no trial of the proposed method, two trials of one cell, fold and seeds, or
            trials of one corpus that were tested on different utterances.
    """
    finals = _checked(frame, proposed)
    if rivals is not None:
        finals = finals[finals["method"].isin({proposed, f"{proposed}_post", CONTROL, *rivals})]
    errors = TrialErrors.read(finals, hypotheses)
    finals["words"] = [errors.words_of(trial) for trial in finals["trial_id"]]
    tests = paired_test_table(finals, errors, proposed, resamples=resamples)
    return Evaluation(
        proposed=proposed,
        finals=finals,
        cells=cell_table(finals, errors, proposed, resamples=resamples),
        tests=tests,
        verdicts=verdict_table(tests),
        costs=cost_table(finals, proposed),
        layers=layers if layers is not None else pd.DataFrame(columns=LAYERS),
        errors=errors,
    )


def _checked(frame: pd.DataFrame, proposed: str) -> pd.DataFrame:
    """Trials in order, with `fold` a number and `kind`."""
    lacking = [column for column in COLUMNS if column not in frame]
    if lacking:
        raise ComparisonError(f"the trials to compare lack {', '.join(lacking)}")
    if proposed not in set(frame["method"]):
        raise ComparisonError(
            f"no trial of '{proposed}' to compare (methods: {', '.join(sorted(set(frame['method'])))})"
        )
    fold = frame["fold"].astype(float).fillna(-1).astype(int)
    finals = frame.assign(fold=fold, budget=frame["budget"].astype(float), kind=kinds(frame))
    order = ["corpus", "method", "budget", "sparsity_requested", "fold", "dense_seed", "seed"]
    twice = finals[finals.duplicated(order)]
    if len(twice):
        row = twice.iloc[0]
        raise ComparisonError(
            f"{row['corpus']}: two final trials of {row['method']} at {100 * row['sparsity_requested']:g} %, budget "
            f"{row['budget']:g}, with dense seed {row['dense_seed']} and seed {row['seed']}: a cell has one setting, "
            "chosen on dev"
        )
    trained_first = finals["kind"].map({TRAINED: 0, POST: 1})
    return (
        finals.assign(_kind=trained_first).sort_values(["_kind", *order]).drop(columns="_kind").reset_index(drop=True)
    )
