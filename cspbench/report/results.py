"""Results of studies: one row a trial.

The list of a study's trials says what was asked for; each trial's own folder says what came out of it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tokenize import TokenError
from typing import Any

import pandas as pd

from cspbench.constraints import Constraint, violated
from cspbench.errors import ConfigError, did_you_mean
from cspbench.hyper import flatten
from cspbench.report.sources import Place, Source, places, study_records
from cspbench.result import ALIASES, METRICS, TrialResult
from cspbench.spec import TrialSpec, canonical, content_id
from cspbench.store import Store, read_object
from cspbench.trials.records import TrialRecord, read_result

MEASURES = [*METRICS, *ALIASES]
"""Numeric columns that only a finished trial has; NaN elsewhere."""

COLUMNS = [
    *("trial_id", "study", "number", "state", "corpus", "synthetic", "method", "sparsity_requested", "seed", "setting"),
    *("dense_id", "schema", "device", "formats", "violated", "dense_violated", "error"),
    *(name for name in MEASURES if name != "sparsity_requested"),
]


def load_results(source: Source, root: Store | Path | str = "runs") -> pd.DataFrame:
    """Read the trials of studies, one row each, in the order in which they were asked for.

    Args:
        source: the study, by the top-level ``name`` of its sweep file; or a results folder, for all its studies; or the
            tracking URI of an MLflow server or database, for all that it holds; or a list of such.
        root: folder of all results, which the sweep wrote to; for names.

    Returns:
        A frame with `COLUMNS`: what identifies the trial, then a column for each metric of
        `cspbench.result.METRICS`, with its name and unit, and ``wer`` as a second name of ``test_wer``. Then
        ``params.<name>`` for every hyperparameter that any trial's method has, and ``protocol.<key>`` for what was
        recorded with the latency. Select on ``dev_wer``, report ``test_wer``.

        ``state`` is complete, failed, stopped (early), running, or missing (finished once, but its result is gone);
        measures of all but complete trials are NaN. ``setting`` is equal for trials that differ in sparsity and seed
        alone. ``formats`` are those of the file that ``size_bytes`` and ``latency_ms`` describe. ``schema`` is the
        schema version of the trial: equal settings of different versions may come out differently. ``violated`` are the
        constraints of the sweep that the setting does not meet at this sparsity, by the mean over its finished seeds,
        and ``dense_violated`` those that the dense recogniser does not meet; empty where there are none.

    Raises:
        ResultsError: no such study, or a record that this version cannot read.

    Example:
        >>> import cspbench
        >>> trials = cspbench.load_results("smoke")
        >>> trials.query("state == 'complete'").groupby("method")["compression"].max().round(1).to_dict()
        {'csp': 3.4, 'lottery': 3.4, 'magnitude': 2.7, 'movement': 3.0}
    """
    frames = [_of_place(place) for place in places(source, root)]
    extra = {str(column): None for frame in frames for column in frame if column not in COLUMNS}
    columns = [*COLUMNS, *sorted(extra)]
    if len(frames) == 1:
        return frames[0].reindex(columns=columns)
    return pd.concat(frames, ignore_index=True).reindex(columns=columns) if frames else pd.DataFrame(columns=columns)


def _of_place(place: Place) -> pd.DataFrame:
    rows = [{"study": place.study} | _row(place.store, record) for record in place.records()]
    extra = {key: None for row in rows for key in row if key not in COLUMNS}
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *extra]).astype(dict.fromkeys(MEASURES, float))
    return _judged(frame, _constraints(place))


def count_states(name: str, store: Store) -> Counter[str]:
    """Count the trials of a study by ``state``, see `load_results`, without reading their results.

    Raises:
        ResultsError: no such study, or a record that this version cannot read.
    """
    return Counter(_state(store, record) for record in study_records(store, name))


def where(frame: pd.DataFrame, condition: str) -> pd.DataFrame:
    """Keep the rows for which a condition on columns holds.

    Args:
        frame: as from `load_results`.
        condition: as of `pandas.DataFrame.query`, e.g. ``size_bytes < 5e5 and method != 'control'``; names with a dot
            stand between backquotes.

    Raises:
        ConfigError: a column that is not there, or no condition.
    """
    try:
        holds = frame.eval(condition, engine="python", local_dict={}, global_dict={})
    except pd.errors.UndefinedVariableError as error:
        name = str(error).split("'")[1]
        raise ConfigError(f"where {condition}: no column '{name}'{did_you_mean(name, frame.columns)}") from None
    except (SyntaxError, TokenError, ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        raise ConfigError(f"where {condition}: no condition, such as size_bytes < 5e5 ({error})") from None
    if not isinstance(holds, pd.Series) or holds.dtype != bool:
        raise ConfigError(f"where {condition}: no condition, such as size_bytes < 5e5")
    return frame[holds]


def _constraints(place: Place) -> list[Constraint]:
    """Constraints of the sweep behind a study; a comparison, and a study collected elsewhere, have none."""
    path = place.store.study(place.study).sweep if place.study else None
    config = read_object(path).get("config", {}) if path is not None and path.is_file() else {}
    return [Constraint.parse(text) for text in config.get("constraints", ())]


def _judged(frame: pd.DataFrame, constraints: list[Constraint]) -> pd.DataFrame:
    """Fill in what settings, and the dense recognisers, violate."""
    frame = frame.assign(violated="", dense_violated="")
    done = frame[frame["state"] == "complete"]
    if not constraints:
        return frame
    for _, part in done.groupby(["method", "sparsity_requested", "setting"]):
        frame.loc[part.index, "violated"] = _worded(constraints, dict(part[MEASURES].mean().dropna()))
    for _, part in done.groupby("dense_id"):
        known = {name.removeprefix("dense_"): part[name].median() for name in METRICS if name.startswith("dense_")}
        metrics = known | {"sparsity": 0.0, "sparsity_requested": 0.0, "speedup": 1.0, "compression": 1.0}
        judged = [constraint for constraint in constraints if constraint.metric in metrics]
        frame.loc[part.index, "dense_violated"] = _worded(judged, metrics)
    return frame


def _worded(constraints: list[Constraint], metrics: dict[str, float]) -> str:
    return ", ".join(constraint.text for constraint in violated(constraints, metrics))


def _row(store: Store, record: TrialRecord) -> dict[str, Any]:
    spec = record.parse()
    row: dict[str, Any] = {
        "trial_id": record.trial_id,
        "number": record.number,
        "corpus": spec.dense.corpus.name,
        "method": spec.method.name,
        "sparsity_requested": spec.sparsity,
        "seed": spec.seed,
        "setting": _setting(spec),
        "dense_id": spec.dense.id,
        "schema": spec.version,
    }
    row |= {f"params.{key}": value for key, value in flatten(spec.method.params).items()}
    return row | _outcome(store, record)


def _setting(spec: TrialSpec) -> str:
    """Hash of everything but sparsity, seeds and the latency protocol."""
    values = canonical(spec, spec.version)
    chosen = {name: values[name] for name in ("method", "training", "prunable", "version")}
    dense = {name: value for name, value in values["dense"].items() if name not in ("seed", "corpus")}
    return content_id("setting", chosen | {"dense": dense, "corpus": spec.dense.corpus.identity()})


def _outcome(store: Store, record: TrialRecord) -> dict[str, Any]:
    """State, error and measures."""
    folder, state = store.trial(record.trial_id), _state(store, record)
    if state == "complete":
        return {"state": state, "error": None} | _measures(read_result(folder))
    if state == "missing":
        return {"state": state, "error": f"{folder.result} is missing"}
    return {"state": state, "error": record.error}


def _state(store: Store, record: TrialRecord) -> str:
    """State of a trial. A result on disk counts even if the sweep died before it took note."""
    if record.state in ("complete", "running") and store.trial(record.trial_id).finished:
        return "complete"
    return "missing" if record.state == "complete" else record.state


def _measures(result: TrialResult) -> dict[str, Any]:
    metrics = result.metrics()
    protocol = {} if result.latency is None else result.latency.protocol
    return {
        **metrics,
        **{alias: metrics[name] for alias, name in ALIASES.items() if name in metrics},
        **{"device": result.device, "synthetic": result.synthetic, "formats": result.formats},
        **{f"protocol.{key}": value for key, value in protocol.items()},
    }
