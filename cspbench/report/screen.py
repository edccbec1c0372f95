"""One trial on one screen of text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from cspbench.hyper import flatten
from cspbench.report.confusions import confused_words, worst_utterances
from cspbench.report.trial import Trial
from cspbench.spec import TrainSpec, TrialSpec
from cspbench.units import size_unit, time_unit

BARS = "▁▂▃▄▅▆▇█"
LAYER_BAR = 20
"""Characters of the bar of a layer that is all zeros."""
LABEL = 14
EDITS = ("substitutions", "deletions", "insertions")
CONFUSIONS = 5
"""Pairs of confused words shown."""


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """Draw numbers as a line of bars, the least the lowest; at most `width` of them, evenly chosen.

    Example:
        >>> sparkline([3, 2, 1, 1.5])
        '█▅▁▃'
    """
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    low, high = min(values), max(values)
    steps = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[int((value - low) * steps + 0.5)] for value in values)


def heading(spec: TrialSpec) -> str:
    """Name a trial: ``csp at 90 % sparsity, seed 0, on an4``."""
    return f"{spec.method.name} at {100 * spec.sparsity:.4g} % sparsity, seed {spec.seed}, on {spec.dense.corpus.name}"


def screen(trial: Trial, hypotheses: int = 3, width: int = 80) -> Iterator[str]:
    """Describe a finished trial in lines of text.

    Args:
        trial: the trial.
        hypotheses: number of utterances to show, those with the most errors first.
        width: characters of a line.

    Raises:
        ResultsError: it has not finished.
    """
    spec, result = trial.spec, trial.result
    metrics = result.metrics()
    yield f"{heading(spec)}{' (synthetic speech)' if result.synthetic else ''}"
    yield f"trial {trial.id}, dense recogniser {result.dense_id}, {trial.store.trial(trial.id).path}"
    yield ""
    for label, text in (*_numbers(metrics, result.formats), *_settings(spec)):
        indent = " " * (LABEL + 2)
        yield from textwrap.wrap(text, width, initial_indent=f"{label:{LABEL}}  ", subsequent_indent=indent)
    yield ""
    yield from _layers(trial.layers)
    yield ""
    yield from _curves(trial.curve)
    if result.test is not None:
        yield from _errors(trial.hypotheses, hypotheses, width)


def _numbers(metrics: Mapping[str, float], formats: str) -> Iterator[tuple[str, str]]:
    """Labels and texts of the numbers of a trial."""
    for split in ("test", "dev"):
        if f"{split}_wer" in metrics:
            yield f"{split} WER", _wer(metrics, split)
    if "test_substitutions" in metrics:
        kinds = ", ".join(f"{metrics[f'test_{kind}']:.0f} {kind}" for kind in EDITS)
        yield "test errors", f"{kinds}, in {metrics['test_words']:.0f} words; CER {100 * metrics['test_cer']:.1f} %"
    if "size_bytes" in metrics:
        sizes = {name: metrics[name] for name in ("size_bytes", "dense_size_bytes", "smallest_bytes")}
        unit = size_unit(sizes.values())
        own, dense, smallest = map(unit.text, sizes.values())
        yield "size", f"{own}, {metrics['compression']:.1f}× smaller than dense ({dense}); smallest packing {smallest}"
    if "latency_ms" in metrics:
        yield "latency", _latency(metrics)
        if formats:
            yield "", formats
    if "int8_wer" in metrics:
        time = metrics.get("int8_latency_ms")
        timed = "" if time is None else f", {time_unit([time]).text(time)} a step"
        yield "in int8", f"test WER {100 * metrics['int8_wer']:.1f} %{timed}"
    yield "sparsity", f"{100 * metrics['sparsity']:.2f} % zeros, {100 * metrics['sparsity_requested']:.4g} % asked for"
    steps, training, whole = (metrics[name] for name in ("steps", "train_seconds", "seconds"))
    yield "training", f"{steps:.0f} steps in {training:.0f} s; the whole trial took {whole:.0f} s"


def _wer(metrics: Mapping[str, float], split: str) -> str:
    names = (f"{split}_wer", f"{split}_wer_low", f"{split}_wer_high", f"dense_{split}_wer")
    own, low, high, dense = (100 * metrics[name] for name in names)
    change = f", {100 * (own / dense - 1):+.0f} % to dense ({dense:.1f} %)" if dense else ", dense 0 %"
    return f"{own:.1f} % [{low:.1f}, {high:.1f}]{change}"


def _latency(metrics: Mapping[str, float]) -> str:
    unit = time_unit([metrics["latency_ms"], metrics["dense_latency_ms"]])
    interval = ""
    if "latency_low_ms" in metrics:
        interval = f" [{unit.format(metrics['latency_low_ms'])}, {unit.format(metrics['latency_high_ms'])}]"
    noisy = "TOO NOISY TO BELIEVE: " * (metrics.get("latency_conclusive") == 0)
    return (
        f"{noisy}{unit.text(metrics['latency_ms'])}{interval} a step, {metrics['speedup']:.2f}× as fast as dense "
        f"({unit.text(metrics['dense_latency_ms'])}); p95 {unit.text(metrics['latency_p95_ms'])}; "
        f"{1 / metrics['rtf']:.0f}× real time"
    )


def _settings(spec: TrialSpec) -> Iterator[tuple[str, str]]:
    """Labels and texts of what was asked for."""
    params = ", ".join(f"{name}={value}" for name, value in flatten(spec.method.params).items() if value != {})
    if params:
        yield "method", params
    yield "pruning run", _run(spec.training)
    if spec.dense.pretrained is None:
        yield "dense training", _run(spec.dense.training)
    else:
        yield "dense model", f"pretrained: {spec.dense.pretrained.path}, hash {spec.dense.pretrained.fingerprint}"


def _run(run: TrainSpec) -> str:
    return f"{run.epochs} epochs, learning rate {run.learning_rate:g}, batches of {run.batch_size}"


def _layers(layers: pd.DataFrame) -> Iterator[str]:
    width = max(map(len, layers["layer"]), default=0)
    for name, zeros in zip(layers["layer"], layers["sparsity"], strict=True):
        yield f"{name:{width}}  {100 * zeros:5.1f} % zeros  {'█' * round(LAYER_BAR * zeros)}".rstrip()


def _curves(curve: pd.DataFrame) -> Iterator[str]:
    """A line for each quantity that was recorded more than once."""
    for name, factor, unit in (("loss", 1, ""), ("dev_wer", 100, " %"), ("sparsity", 100, " %")):
        if name not in curve:
            continue
        values = [factor * value for value in curve[name].dropna()]
        if len(values) > 1:
            ends = f"{values[0]:.3g}{unit} to {values[-1]:.3g}{unit}"
            yield f"{name.replace('dev_wer', 'dev WER'):{LABEL}}  {sparkline(values)}  {ends}"


def _errors(rows: pd.DataFrame, count: int, width: int) -> Iterator[str]:
    pairs = confused_words(rows).head(CONFUSIONS)
    if count == 0 or pairs.empty:
        return
    yield ""
    shown = ", ".join(f"{row.reference} → {row.hypothesis} ({row.count})" for row in pairs.itertuples(name="Pair"))
    yield from textwrap.wrap(f"most confused: {shown}", width, subsequent_indent="  ")
    for row in worst_utterances(rows, count).to_dict("records"):
        yield from _utterance(row, width)


def _utterance(row: Mapping[Any, Any], width: int) -> Iterator[str]:
    yield f"{row['id']}: {row['edits']} errors in {row['words']} words"
    for label, text in (("reference", row["reference"]), ("hypothesis", row["hypothesis"] or "(nothing)")):
        line = f"  {label:10}  {text}"
        yield line if len(line) <= width else f"{line[: width - 4]} ..."
