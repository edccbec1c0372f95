"""Pareto fronts of points, and of the rows of a summary."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

MAXIMISED = {"sparsity"}
"""Columns of a summary of which more is better; less is better of all others."""


def pareto_front(values: ArrayLike) -> NDArray[np.bool_]:
    """Mark the points that no other point beats, every column being minimised.

    A point beats another if it is no worse in any column and better in one; so equal points stand or fall together. A
    point with a NaN is never on the front and beats nothing.

    Args:
        values: points, shape (n, k), k >= 1. Negate what is to be maximised.

    Returns:
        Mask of shape (n,), True on the front.

    Raises:
        ValueError: not two-dimensional, or without columns.

    Example:
        >>> pareto_front([[1, 4], [2, 2], [3, 3], [2, 2]]).tolist()
        [True, True, False, True]
    """
    points = np.asarray(values, dtype=float)
    if points.ndim != 2 or points.shape[1] == 0:
        raise ValueError(f"points must have shape (n, k) with k >= 1, got {points.shape}")
    candidates = np.flatnonzero(~np.isnan(points).any(axis=1))
    # In lexicographic order nothing is beaten by what comes later: one pass over the survivors finds the front, each
    # clearing away all it beats at once.
    candidates = candidates[np.lexsort(points[candidates].T[::-1])]
    passed = 0
    while passed < len(candidates):
        best = points[candidates[passed]]
        rest = points[candidates]
        beaten = (best <= rest).all(axis=1) & (best < rest).any(axis=1)
        candidates = candidates[~beaten]
        passed += 1
    front = np.zeros(len(points), dtype=bool)
    front[candidates] = True
    return front


def on_front(table: pd.DataFrame, columns: tuple[str, ...]) -> NDArray[np.bool_]:
    """Mark the rows that no other row beats in some columns of a `summary`, those that violate a constraint left out.

    Args:
        table: rows of one corpus and schema version.
        columns: e.g. ``("sparsity", "test_wer")``; those of `MAXIMISED` are maximised, the others minimised.

    Returns:
        Mask of shape (n,).
    """
    values = np.stack([-table[name] if name in MAXIMISED else table[name] for name in columns], axis=1)
    return pareto_front(np.where(violates(table).to_numpy()[:, None], np.nan, values))


def violates(table: pd.DataFrame) -> pd.Series:
    """Mark the rows of a `summary`, or of `load_results`, that violate a constraint of their sweep."""
    if "violated" not in table:
        return pd.Series(False, index=table.index)
    return table["violated"].fillna("") != ""  # an empty text comes back from CSV as NaN


def hypervolume(values: ArrayLike, reference: tuple[float, float]) -> float:
    """Return the area that points dominate below a reference point, both columns being minimised.

    Args:
        values: points, shape (n, 2); those with a NaN, or beyond the reference, add nothing.
        reference: the corner of the area.
    """
    points = np.asarray(values, dtype=float)
    points = points[pareto_front(points) & (points < reference).all(axis=1)]
    points = np.unique(points, axis=0)  # by the first column; the second falls
    widths = np.diff(np.append(points[:, 0], reference[0]))
    return float(np.sum(widths * (reference[1] - points[:, 1])))
