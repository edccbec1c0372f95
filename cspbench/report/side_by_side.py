"""Two trials, or two settings, side by side: what was asked for, what came out, and whether the difference is real."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

import pandas as pd

from cspbench.asr.wer import FEWEST_SPEAKERS
from cspbench.errors import CspbenchError
from cspbench.hyper import flatten_all
from cspbench.report.bootstrap import PairedDifference
from cspbench.report.columns import Column
from cspbench.report.display import NOISY, NOISY_NOTE
from cspbench.report.significance import LEVEL, compare_trials
from cspbench.report.trial import Trial
from cspbench.result import METRICS
from cspbench.units import Unit, metric_unit

SIDES = ("a", "b")
BOTH = "a − b"
ABSENT = "–"
SHOWN = (
    *("test_wer", "dev_wer", "test_cer", "test_substitutions", "test_deletions", "test_insertions", "int8_wer"),
    *("size_bytes", "compression", "smallest_bytes", "latency_ms", "latency_p95_ms", "speedup", "int8_latency_ms"),
    *("sparsity", "steps", "train_seconds"),
)
"""Metrics that people are shown; the frame has all."""

TIMED = ("latency_ms", "latency_p95_ms", "speedup", "int8_latency_ms")


@dataclass(frozen=True)
class Difference:
    """What tells two settings apart, each given by its trials, one a seed.

    Attributes:
        spec: one row a field that differs: ``field``, ``a``, ``b``, in words.
        metrics: one row a metric: ``metric``, ``unit``, ``a``, ``b`` (means over the trials; NaN where none has it).
        layers: one row a weight matrix: ``layer``, ``a``, ``b`` (fractions of zeros; NaN where it has no such matrix).
        test: paired bootstrap of the test WER over utterances, a minus b; None where the test sets differ.
        by_speaker: the same over speakers; None where there are fewer than `FEWEST_SPEAKERS`.
    """

    spec: pd.DataFrame
    metrics: pd.DataFrame
    layers: pd.DataFrame
    test: PairedDifference | None
    by_speaker: PairedDifference | None


def difference(first: Sequence[Trial], second: Sequence[Trial]) -> Difference:
    """Compare two settings.

    Args:
        first: trials of the first, one a seed, finished.
        second: trials of the second.

    Raises:
        ResultsError: one has not finished.
    """
    sides = (first, second)
    specs = (_spec_values(first[0]), _spec_values(second[0]))
    test, by_speaker = _tests(first, second)
    return Difference(
        pd.DataFrame(_different(*specs), columns=["field", *SIDES]),
        pd.DataFrame(_metrics(*(_means(side) for side in sides)), columns=["metric", "unit", *SIDES]),
        _layers(*(_mean_layers(side) for side in sides)),
        test,
        by_speaker,
    )


def _spec_values(trial: Trial) -> dict[str, Any]:
    return flatten_all(trial.spec.model_dump(mode="json"))


def _different(a: dict[str, Any], b: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in dict.fromkeys((*a, *b)):
        values = [str(side[name]) if name in side else ABSENT for side in (a, b)]
        if values[0] != values[1]:
            yield name, values[0], values[1]


def _means(trials: Sequence[Trial]) -> dict[str, float]:
    """Mean of each metric over the trials; of those that have it, where not all do."""
    means = pd.DataFrame([trial.result.metrics() for trial in trials]).mean()
    return {str(name): float(value) for name, value in means.items()}


def _metrics(a: dict[str, float], b: dict[str, float]) -> Iterator[tuple[str, str, float, float]]:
    for name, metric in METRICS.items():
        if name in a or name in b:
            yield name, metric.unit, a.get(name, math.nan), b.get(name, math.nan)


def _mean_layers(trials: Sequence[Trial]) -> pd.Series:
    return pd.concat([trial.layers for trial in trials]).groupby("layer", sort=False)["sparsity"].mean()


def _layers(a: pd.Series, b: pd.Series) -> pd.DataFrame:
    return pd.concat({"a": a, "b": b}, axis=1).rename_axis("layer").reset_index()


def _tests(first: Sequence[Trial], second: Sequence[Trial]) -> tuple[PairedDifference | None, PairedDifference | None]:
    ids, store = ([trial.id for trial in first], [trial.id for trial in second]), first[0].store
    try:
        plain = compare_trials(*ids, store)
    except CspbenchError:  # other utterances, or trials for selection only, which were not tested
        return None, None
    hypotheses = first[0].hypotheses
    speakers = hypotheses["speaker"].nunique() if "speaker" in hypotheses else 0
    return plain, compare_trials(*ids, store, by_speaker=True) if speakers >= FEWEST_SPEAKERS else None


def tables(found: Difference) -> Iterator[tuple[str, list[Column]]]:
    """Word a difference for people: titles, and columns of text."""
    if len(found.spec):
        yield "settings that differ", [Column(name, tuple(found.spec[name]), right=False) for name in ("field", *SIDES)]
    metrics = found.metrics[found.metrics["metric"].isin(SHOWN)]
    units = [metric_unit(unit, (a, b)) for _, unit, a, b in metrics.itertuples(index=False)]
    yield "metrics", _columns(metrics, "metric", units, _noisy(found))
    yield "zeros of each layer", _columns(found.layers, "layer", [Unit("%", 100, 1)] * len(found.layers))


def _columns(rows: pd.DataFrame, name: str, units: Sequence[Unit], noisy: Set[str] = frozenset()) -> list[Column]:
    """The names of rows, both sides, and the first less the second; timed rows of `noisy` columns are marked."""
    sides = dict(zip((*SIDES, BOTH), (rows["a"], rows["b"], rows["a"] - rows["b"]), strict=True))
    columns = []
    for heading, values in sides.items():
        marks = [NOISY * (heading in noisy and row in TIMED) for row in rows[name]]
        cells = map(_cell, values, units)
        columns.append(Column(heading, tuple(mark + cell for mark, cell in zip(marks, cells, strict=True))))
    return [Column(name, tuple(rows[name]), right=False), *columns]


def _noisy(found: Difference) -> set[str]:
    """Columns with a latency that was too noisy to believe."""
    verdict = found.metrics.set_index("metric").reindex(["latency_conclusive"])
    sides = {side for side in SIDES if (verdict[side] < 1).any()}
    return sides | {BOTH} if sides else set()


def _cell(value: float, unit: Unit) -> str:
    return ABSENT if math.isnan(value) else unit.text(value)


def verdicts(found: Difference) -> list[str]:
    """Say whether latencies can be believed, and whether the test WERs differ, a sentence a test."""
    notes = [NOISY_NOTE] if _noisy(found) else []
    if found.test is None:
        return [*notes, "no paired test: the two were not tested on the same utterances"]
    tests = {"utterances": found.test, "speakers": found.by_speaker}
    return [*notes, *(_verdict(test, units) for units, test in tests.items() if test is not None)]


def _verdict(test: PairedDifference, units: str) -> str:
    better = f"{SIDES[test.difference > 0]} is better" if test.p_value < LEVEL else "no difference shown"
    interval = f"95 % interval [{100 * test.low:+.2f}, {100 * test.high:+.2f}]"
    return (
        f"{better}: test WER a − b = {100 * test.difference:+.2f} points, {interval}, p = {test.p_value:.2g} "
        f"(paired bootstrap over {test.units} {units})"
    )
