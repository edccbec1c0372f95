"""Committed record of a comparison: final trials of methods that were run elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cspbench.comparison.report import load_evaluation, recorded_errors

PLANNED = ["corpus", "method", "budget", "sparsity_requested", "fold", "dense_seed", "seed"]
"""Columns that say which planned run a final trial is."""


@dataclass(frozen=True)
class Record:
    """Final trials with their word errors, as `write_evaluation` wrote them.

    Attributes:
        finals: finished trials, one row each.
        layers: density of each weight matrix by cell.
        hypotheses: gives the word errors of a trial on its test utterances.
    """

    finals: pd.DataFrame
    layers: pd.DataFrame
    hypotheses: Callable[[str], pd.DataFrame]

    @classmethod
    def read(cls, folder: Path) -> Record:
        """Read the folder of a written comparison; raises ComparisonError where a table is missing."""
        evaluation = load_evaluation(folder)
        finals = evaluation.finals[evaluation.finals["state"] == "complete"]
        return cls(finals, evaluation.layers, recorded_errors(folder))

    def fill(self, finals: pd.DataFrame) -> pd.DataFrame:
        """Rows of `finals`, those that did not finish here replaced by those of the record."""
        known = self.finals.set_axis(pd.Index(_keys(self.finals)), axis=0)
        keys = pd.Series(_keys(finals), index=finals.index)
        taken = keys[(finals["state"] != "complete") & keys.isin(known.index)]
        if taken.empty:
            return finals
        rows = known.loc[list(taken)].reindex(columns=finals.columns).set_axis(taken.index)
        rows["fold"] = finals.loc[taken.index, "fold"]
        filled = pd.concat([finals.drop(index=taken.index), rows.astype(object)])
        return filled.sort_index().infer_objects()

    def fill_layers(self, layers: pd.DataFrame) -> pd.DataFrame:
        """Layer densities with those of the record for methods that have none here."""
        others = self.layers[~self.layers["method"].isin(layers["method"])]
        return pd.concat([layers, others[layers.columns]], ignore_index=True) if len(others) else layers


def differing_dense_models(finals: pd.DataFrame) -> list[str]:
    """Remarks on dense models whose weights are not the same in all trials, told by their WER on test."""
    done = finals[finals["state"] == "complete"]
    return [
        f"{own['corpus'].iloc[0]}: trials did not all start from the same weights of the dense recogniser {dense}: "
        "it was trained on several machines, or again"
        for dense, own in done.groupby("dense_id")
        if own["dense_wer"].round(5).nunique() > 1
    ]


def _keys(finals: pd.DataFrame) -> list[str]:
    """Planned run of each row; a corpus without folds has fold -1."""
    plain = finals[PLANNED].assign(fold=finals["fold"].astype(float).fillna(-1), budget=finals["budget"].astype(float))
    return ["/".join(map(str, row)) for row in plain.itertuples(index=False, name=None)]
