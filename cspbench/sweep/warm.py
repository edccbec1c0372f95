"""Warm starts: finished settings of an earlier study, or of a CSV file, that a sampler is told before it begins."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from pydantic import ValidationError

from cspbench.config import SweepConfig
from cspbench.config.yamlfile import parse_value
from cspbench.errors import ConfigError, did_you_mean
from cspbench.hyper import flatten, nest
from cspbench.pruning.registry import methods
from cspbench.result import METRICS
from cspbench.store import Store
from cspbench.sweep.plan import CONTROL
from cspbench.sweep.space import Space
from cspbench.trials.records import TrialLog, read_result

OBJECTIVES = {"wer": "dev_wer", "latency": "latency_ms", "size": "smallest_bytes"}
"""Metrics that are minimised: the WER is of dev, never of test; the size is that of the smallest packed file."""

WARM = "warm_start"
"""User attribute of trials that were told and not run: where they come from."""


@dataclass(frozen=True)
class KnownSetting:
    """A setting that was run elsewhere.

    Attributes:
        method: its name.
        sparsity: fraction of zeros that was asked for.
        params: all hyperparameters of the method, names dotted.
        metrics: means over seeds.
    """

    method: str
    sparsity: float
    params: Mapping[str, Any]
    metrics: Mapping[str, float]


def known_settings(source: str, store: Store) -> list[KnownSetting]:
    """Read the finished settings of a study of the store, or of a CSV file as `cspbench results NAME --csv` prints it.

    Args:
        source: name of the study, or path of the file, which ends in ``.csv``.
        store: holds the study.

    Raises:
        ConfigError: no such study or file, or a file without the columns.
    """
    rows = _rows_of_file(Path(source)) if source.endswith(".csv") else _rows_of_study(source, store)
    return list(_means(row for row in rows if row.method != CONTROL))


def warm_trial(known: KnownSetting, space: Space, config: SweepConfig, source: str) -> optuna.trial.FrozenTrial | None:
    """Return a setting as a finished trial of a search; None if it does not lie in the space or lacks an objective.

    Args:
        known: the setting.
        space: of the search.
        config: the sweep file: objectives and constraints.
        source: where the setting comes from.
    """
    objectives = [OBJECTIVES[name] for name in config.objectives]
    point = space.point_of(known.method, known.sparsity, known.params)
    if point is None or not known.metrics.keys() >= set(objectives):
        return None
    return optuna.trial.create_trial(
        values=[known.metrics[name] for name in objectives],
        params=point,
        distributions=space.distributions(point),
        user_attrs={WARM: source},
        constraints={c.identity(): c.violation(known.metrics.get(c.metric)) for c in config.bounds()},
    )


def _rows_of_study(name: str, store: Store) -> Iterator[KnownSetting]:
    known = store.studies()
    if name not in known:
        listed = f" (studies there: {', '.join(known)})" if known else ""
        raise ConfigError(f"warm_start: no study '{name}' under {store.root}{did_you_mean(name, known)}{listed}")
    for record in TrialLog(store.study(name).trials).records():
        folder = store.trial(record.trial_id)
        if folder.finished:
            spec = record.parse()
            yield KnownSetting(
                spec.method.name, spec.sparsity, flatten(spec.method.params), read_result(folder).metrics()
            )


def _rows_of_file(path: Path) -> Iterator[KnownSetting]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"warm_start: cannot read {path}: {error}") from None
    rows = csv.DictReader(text.splitlines())
    columns = rows.fieldnames or ()
    missing = [name for name in ("method", "sparsity_requested", "dev_wer") if name not in columns]
    if missing:
        raise ConfigError(f"warm_start: {path} has no column {', '.join(missing)}: `cspbench results NAME --csv` has")
    for number, row in enumerate(rows, 2):
        if row["method"] in methods.names() and row.get("state", "complete") == "complete":
            try:
                yield _setting_of_row(row)
            except ValueError as error:
                reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
                raise ConfigError(f"warm_start: {path}, line {number}: {reason}") from None


def _setting_of_row(row: Mapping[str, str]) -> KnownSetting:
    params = methods.get(row["method"]).Params
    given = {name.removeprefix("params."): text for name, text in row.items() if name.startswith("params.") and text}
    own = {name: parse_value(text) for name, text in given.items() if name.partition(".")[0] in params.model_fields}
    full = params.model_validate(nest(own)).model_dump(mode="json")
    metrics = {name: float(row[name]) for name in METRICS if row.get(name)}
    return KnownSetting(row["method"], float(row["sparsity_requested"]), flatten(full), metrics)


def _means(rows: Iterable[KnownSetting]) -> Iterator[KnownSetting]:
    """One setting for the rows of all its seeds."""
    groups: dict[str, list[KnownSetting]] = {}
    for row in rows:
        key = json.dumps([row.method, row.sparsity, row.params], sort_keys=True)
        groups.setdefault(key, []).append(row)
    for group in groups.values():
        shared = set.intersection(*(set(row.metrics) for row in group))
        means = {name: sum(row.metrics[name] for row in group) / len(group) for name in shared}
        yield KnownSetting(group[0].method, group[0].sparsity, group[0].params, means)
