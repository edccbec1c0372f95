"""Masks of pruned models compared: which weights several methods keep."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file

from cspbench.report.table import PLACE
from cspbench.store import Store
from cspbench.trials.records import read_result

Mask = dict[str, np.ndarray]
"""Packed bits of a trial's weight matrices by name, 1 where a weight is kept."""


def mask_overlap(trials: pd.DataFrame, store: Store) -> pd.DataFrame:
    """Compare the masks of methods at the same sparsity, from the same dense recogniser.

    Args:
        trials: one of each cell, as from `cspbench.report.page_data.shown_cells`.
        store: holds them.

    Returns:
        One row a pair of methods, in either direction: ``corpus``, ``schema``, ``sparsity_requested``, ``method``,
        ``other`` and ``overlap``: the fraction of the weights kept by `method` that `other` keeps as well. Trials whose
        weights are not in the store are left out, and so are those whose file is damaged, with a warning.
    """
    pruned = trials[trials["sparsity_requested"] > 0]
    groups = pruned.groupby([*PLACE, "sparsity_requested", "dense_id"])
    rows = [pair for _, group in groups if len(group) > 1 for pair in _pairs(group, store)]
    return pd.DataFrame(rows, columns=[*PLACE, "sparsity_requested", "method", "other", "overlap"])


def _pairs(group: pd.DataFrame, store: Store) -> Iterator[dict[str, object]]:
    heads = {row["method"]: row for row in group.to_dict("records")}
    masks = {method: _mask(str(row["trial_id"]), store) for method, row in heads.items()}
    for method, own in masks.items():
        for other, theirs in masks.items():
            if method != other and own and own.keys() == theirs.keys():
                both = sum(_count(own[name] & theirs[name]) for name in own)
                head = {name: heads[method][name] for name in (*PLACE, "sparsity_requested", "method")}
                yield head | {"other": other, "overlap": both / max(1, sum(map(_count, own.values())))}


def _mask(trial: str, store: Store) -> Mask:
    folder = store.trial(trial)
    if not folder.weights.is_file():  # it was run elsewhere, and its records alone came back
        return {}
    try:
        weights = load_file(folder.weights)
    except (SafetensorError, OSError) as error:
        warnings.warn(f"{folder.weights}: damaged, left out where masks are compared ({error})", stacklevel=2)
        return {}
    return {name: np.packbits(weights[name] != 0) for name in read_result(folder).layer_sparsity if name in weights}


def _count(bits: np.ndarray) -> int:
    return int(np.bitwise_count(bits).sum())
