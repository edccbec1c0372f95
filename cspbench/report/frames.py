"""Training curves, layers and hypotheses of many trials, one tidy frame each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from cspbench.report.sources import Source, places
from cspbench.store import Store, TrialFolder
from cspbench.trials.records import read_result, rows_of

TRIAL = ("study", "trial_id", "method", "sparsity_requested", "seed")
"""Columns with which every row says whose it is."""

Rows = list[dict[str, Any]]


def load_curves(source: Source, root: Store | Path | str = "runs") -> pd.DataFrame:
    """Read training curves.

    Args:
        source: as of `load_results`; the id of a trial too.
        root: folder of all results, for names and ids.

    Returns:
        One row a record of a trial: ``study``, ``trial_id``, ``method``, ``sparsity_requested``, ``seed``; then
        ``step`` (optimiser steps), ``epoch``, ``loss`` (of training, nats), ``learning_rate``, ``sparsity`` (fraction
        of zeros at this step), ``dev_wer`` (a fraction, where dev was decoded) and what else was recorded. Trials
        without a curve are left out.

    Raises:
        ResultsError: nothing of that name, or a record that this version cannot read.

    Example:
        >>> import cspbench
        >>> curves = cspbench.load_curves("smoke")
        >>> curves.groupby("method")["step"].max().to_dict()
        {'csp': 8, 'lottery': 24, 'magnitude': 8, 'movement': 8}
    """
    numbers = ("step", "epoch", "loss", "learning_rate", "sparsity", "dev_wer")
    return _frame(source, root, lambda folder: rows_of(folder.curve), dict.fromkeys(numbers, float) | {"step": int})


def load_layers(source: Source, root: Store | Path | str = "runs") -> pd.DataFrame:
    """Read the sparsity of layers.

    Args:
        source: as of `load_results`; the id of a trial too.
        root: folder of all results, for names and ids.

    Returns:
        One row a weight matrix of a finished trial: ``study``, ``trial_id``, ``method``, ``sparsity_requested``,
        ``seed``, ``layer`` (its name) and ``sparsity`` (fraction of zeros, counted on the saved weights).

    Raises:
        ResultsError: nothing of that name, or a record that this version cannot read.

    Example:
        >>> import cspbench
        >>> layers = cspbench.load_layers("smoke")
        >>> layers.groupby("layer")["sparsity"].mean().idxmin()  # the layer that keeps most
        'joint_prediction.weight'
    """
    return _frame(source, root, _layers, {"layer": str, "sparsity": float})


def load_hypotheses(source: Source, root: Store | Path | str = "runs") -> pd.DataFrame:
    """Read references and hypotheses of the test utterances.

    Args:
        source: as of `load_results`; the id of a trial too.
        root: folder of all results, for names and ids.

    Returns:
        One row an utterance of a trial: ``study``, ``trial_id``, ``method``, ``sparsity_requested``, ``seed``; then
        ``id`` (of the utterance), ``speaker``, ``reference``, ``hypothesis``, ``edits``, ``words`` (of the reference),
        and in results of schema version 2 ``substitutions``, ``deletions``, ``insertions``, ``characters``,
        ``character_edits``, ``labels`` and ``loss`` (nats). Trials that were not tested are left out.

    Raises:
        ResultsError: nothing of that name, or a record that this version cannot read.

    Example:
        >>> import cspbench
        >>> hypotheses = cspbench.load_hypotheses("smoke")
        >>> totals = hypotheses.groupby("method")[["edits", "words"]].sum()
        >>> (totals["edits"] / totals["words"]).to_dict()  # the test WER
        {'csp': 1.0, 'lottery': 1.0, 'magnitude': 1.0, 'movement': 1.0}
    """
    texts = dict.fromkeys(("id", "speaker", "reference", "hypothesis"), str)
    return _frame(source, root, lambda folder: rows_of(folder.hypotheses), texts | {"edits": int, "words": int})


def _frame(
    source: Source, root: Store | Path | str, read: Callable[[TrialFolder], Rows], types: dict[str, type]
) -> pd.DataFrame:
    rows = [heads | row for heads, folder in _folders(source, root) for row in read(folder)]
    extra = {key: None for row in rows for key in row if key not in types and key not in TRIAL}
    return pd.DataFrame(rows, columns=[*TRIAL, *types, *extra]).astype(types)


def _folders(source: Source, root: Store | Path | str) -> Iterator[tuple[dict[str, Any], TrialFolder]]:
    """What every row of a finished trial begins with, and its folder."""
    for place in places(source, root):
        for record in place.records():
            folder = place.store.trial(record.trial_id)
            if folder.finished:
                spec = record.parse()
                values = (place.study, record.trial_id, spec.method.name, spec.sparsity, spec.seed)
                yield dict(zip(TRIAL, values, strict=True)), folder


def _layers(folder: TrialFolder) -> Rows:
    return [{"layer": layer, "sparsity": zeros} for layer, zeros in read_result(folder).layer_sparsity.items()]
