"""What a search found as it went on, and which hyperparameters decided that."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cspbench.report.pareto import hypervolume, pareto_front
from cspbench.report.table import CELL, CONTROL

VALUES = 3
"""Values of a hyperparameter, at least, for its response to be drawn."""

FEWEST = 20
"""Settings of a method that importances are computed from, at least."""

ALIKE = 5
"""Settings that share a sparsity, at least, for dev WERs to be compared within it."""


def hypervolumes(trials: pd.DataFrame) -> dict[str, list[float]]:
    """Return how much of the plane of dev WER and weights left each method dominates after each of its trials.

    The reference point is the highest dev WER of all trials, and no zeros; the area is divided by that below it.

    Args:
        trials: finished trials of one corpus and schema version, as from `load_results`, in the order they were asked
            for.
    """
    pruned = trials[trials["method"] != CONTROL].dropna(subset=["dev_wer", "sparsity"])
    worst = float(pruned["dev_wer"].max()) if len(pruned) else 0.0
    if not worst:
        return {}
    points = {
        str(method): np.stack([own["dev_wer"] / worst, 1 - own["sparsity"]], axis=1)
        for method, own in pruned.groupby("method", sort=True)
    }
    return {name: list(_areas(own)) for name, own in points.items()}


def _areas(points: NDArray[np.float64]) -> Iterator[float]:
    """Yield the area that points dominate after each of them; only those on the front so far are looked at."""
    front, area = points[:0], 0.0
    for point in points:
        if not (front <= point).all(axis=1).any():
            front = np.vstack([front, point])
            front = front[pareto_front(front)]
            area = hypervolume(front, (1.0, 1.0))
        yield area


def importances(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """Judge which hyperparameters of each method decide whether a setting is among its best quarter.

    By Optuna's PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255), one hyperparameter at a time. Dev WER is compared
    within a sparsity where enough settings share one. Methods with few settings are left out.

    Args:
        trials: finished trials of one corpus and schema version, as from `load_results`.

    Returns:
        A row a hyperparameter: ``method``, ``settings`` (their number), ``hyperparameter``, ``importance`` (those of a
        method sum to 1), the most important first.
    """
    rows = []
    for method, own in trials.groupby("method", sort=True):
        params = [name for name in map(str, own) if name.startswith("params.") and own[name].notna().any()]
        columns = [name for name in params if own[name].astype(str).nunique() > 1]
        first = own.groupby([*CELL, "setting"], sort=False)
        settings = first[columns].first().assign(value=first["dev_wer"].mean()).reset_index()
        at = settings.groupby("sparsity_requested")["value"]
        alike = at.transform("size") >= ALIKE
        if alike.any():
            settings = settings[alike].assign(value=settings["value"] - at.transform("median"))
        elif settings["sparsity_requested"].nunique() > 1:
            columns.append("sparsity_requested")
        if len(settings) >= FEWEST and columns and settings["value"].nunique() > 1:
            found = _ped_anova(settings[columns], settings["value"])
            rows += [
                {
                    "method": str(method),
                    "settings": len(settings),
                    "hyperparameter": name.removeprefix("params.").removesuffix("_requested"),
                    "importance": share,
                }
                for name, share in found.items()
            ]
    return rows


def responses(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """Return dev WER by the value of each hyperparameter that was varied.

    Args:
        trials: finished trials of one corpus and schema version.

    Returns:
        For each numeric hyperparameter of a method with at least `VALUES` values: ``method``, ``name`` and ``points``,
        one a setting: value, dev WER (mean over seeds) and sparsity.
    """
    found = []
    for method, own in trials.groupby("method", sort=True):
        settings = own.groupby([*CELL, "setting"], sort=False)
        wer = settings["dev_wer"].mean()
        for column in (name for name in map(str, own) if name.startswith("params.") and _is_number(own[name])):
            values = settings[column].first()
            if values.nunique() >= VALUES:
                rows = zip(values, wer, values.index.get_level_values("sparsity_requested"), strict=True)
                points = [[float(number) for number in row] for row in rows if not any(map(pd.isna, row))]
                found.append({"method": str(method), "name": column.removeprefix("params."), "points": points})
    return found


def _ped_anova(params: pd.DataFrame, values: pd.Series) -> dict[str, float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it tells of every study that is made
    study = optuna.create_study()  # in memory
    names = [str(name) for name in params]
    distributions = {name: _distribution(params[name]) for name in names}
    for row, value in zip(params.to_dict("records"), values, strict=True):
        given = {name: row[name] if _is_range(params[name]) else str(row[name]) for name in names}
        study.add_trial(optuna.create_trial(params=given, distributions=distributions, value=float(value)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
        return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _is_range(column: pd.Series) -> bool:
    """Numbers alone; where some settings lack a value, having none is one choice more."""
    return _is_number(column) and bool(column.notna().all())


def _distribution(column: pd.Series) -> Any:
    """Range or choices of the values that were tried."""
    import optuna

    if not _is_range(column):
        return optuna.distributions.CategoricalDistribution(sorted(set(map(str, column))))
    low, high = float(column.min()), float(column.max())
    return optuna.distributions.FloatDistribution(low, high, log=0 < 100 * low < high)
