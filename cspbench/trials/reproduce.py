"""Finished trials repeated from their recorded specs, and compared with what they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file

from cspbench.errors import ConfigError
from cspbench.hyper import flatten_all
from cspbench.result import TrialResult
from cspbench.spec import TrialSpec
from cspbench.store import ModelFolder, Store, TrialFolder, read_json
from cspbench.training.dense import environments
from cspbench.trials import run
from cspbench.trials.executors import TrialProgress
from cspbench.trials.records import read_result, rows_of
from cspbench.trials.remote import moved

Level = Literal["same", "elsewhere", "other versions", "unknown"]

LEVELS: dict[Level, str] = {
    "same": "same machine, threads and versions: equal bit for bit",
    "elsewhere": "same versions on another machine or with other threads: rounding may differ",
    "other versions": "other versions: rounding and the code may differ",
    "unknown": "the machine and the versions of the first run were not recorded",
}
"""Circumstances of two runs, and how alike their results must be."""

COMPARED = {"dev", "test", "int8_test", "dense_dev", "dense_test", "sparsity", "layer_sparsity", "size_bytes", "steps"}
"""Fields of a result that no clock measures."""


@dataclass(frozen=True)
class Difference:
    """A value that is not what it was.

    Attributes:
        name: of the value, dotted.
        before: the value of the first run; None if it had none.
        now: the value of this run; None if it has none.
    """

    name: str
    before: float | str | None
    now: float | str | None


@dataclass(frozen=True)
class Reproduction:
    """A trial that was repeated.

    Attributes:
        trial_id: of the trial.
        level: key of `LEVELS`.
        environment: what differs between the machines, threads and versions of the two runs.
        results: numbers of the result that differ, and counts of differing masks, weights and hypotheses.
        weights: False if the first run's weights are not in the store, and only its records were compared.
    """

    trial_id: str
    level: Level
    environment: list[Difference]
    results: list[Difference]
    weights: bool

    @property
    def failed(self) -> bool:
        """True if the results had to be equal and are not."""
        return self.level == "same" and bool(self.results)


def reproduce(
    id: str,
    store: Store,
    out: Path,
    *,
    device: str | None = None,
    corpus_path: Path | None = None,
    progress: TrialProgress = lambda work, event: None,
) -> Reproduction:
    """Repeat a finished trial, the training of its dense recogniser included, and compare the results.

    Both run with as many torch threads as they had.

    Args:
        id: of the trial, or the first digits of it.
        store: holds it.
        out: folder of the new results; that of an interrupted repetition goes on.
        device: as in a sweep file; the kind of device that the trial ran on, if not given.
        corpus_path: where the audio lies now, in place of where it lay.
        progress: called with events.

    Returns:
        The differences.

    Raises:
        ConfigError: no such trial, or a folder that holds a result of it already.
        ResultsError: the trial has not finished.
        CspbenchError: the trial cannot be run here.
    """
    folder = store.find_trial(id)
    before = read_result(folder)
    spec, fresh = TrialSpec.model_validate(read_json(folder.spec)), Store(out)
    if fresh.trial(spec.id).finished:
        raise ConfigError(f"{fresh.root} holds a result of trial {spec.id} already: name a new folder")
    if corpus_path is not None:
        spec = moved(spec, corpus_path)
    device = device or ("cpu" if before.device == "cpu" else "cuda")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(_threads(store.dense(spec.dense.id), threads))
        run.train_dense(spec.dense, fresh, device=device, progress=partial(progress, spec.dense))
        torch.set_num_threads(_threads(folder, threads))
        now = run.run_trial(spec, fresh, device=device, progress=partial(progress, spec))
    finally:
        torch.set_num_threads(threads)
    return _compare((folder, before), (fresh.trial(spec.id), now), store.dense(spec.dense.id), fresh)


def _compare(
    before: tuple[TrialFolder, TrialResult], now: tuple[TrialFolder, TrialResult], dense: ModelFolder, fresh: Store
) -> Reproduction:
    (old, old_result), (new, new_result) = before, now
    results = list(_differences(_numbers(old_result), _numbers(new_result)))
    results += _hypotheses(old, new)
    if old.weights.is_file():
        results += _weights(old, new, list(new_result.layer_sparsity))
    pairs = {"trial": (old, new), "dense": (dense, fresh.dense(new_result.dense_id))}
    level, environment = _circumstances(pairs)
    return Reproduction(new_result.trial_id, level, environment, results, old.weights.is_file())


def _threads(folder: ModelFolder, otherwise: int) -> int:
    known = environments(folder)
    return known[0]["threads"] if known else otherwise


def _circumstances(pairs: Mapping[str, tuple[ModelFolder, ModelFolder]]) -> tuple[Level, list[Difference]]:
    """Level of two runs, and the differences of their environments by stage."""
    found: list[Difference] = []
    for stage, (before, now) in pairs.items():
        known = environments(before)
        if not known:
            return "unknown", []
        (here, *_) = environments(now)
        for each in known:  # more than one where it was resumed on another machine
            found += [d for d in _differences(_texts(each, stage), _texts(here, stage)) if d not in found]
    if not found:
        return "same", []
    return ("other versions" if any(".versions." in difference.name for difference in found) else "elsewhere"), found


def _texts(environment: Mapping[str, Any], stage: str) -> dict[str, float | str | None]:
    return flatten_all(environment, f"{stage}.")


def _numbers(result: TrialResult) -> dict[str, float | str | None]:
    return flatten_all(result.model_dump(mode="json", include=COMPARED))


def _differences(
    before: Mapping[str, float | str | None], now: Mapping[str, float | str | None]
) -> Iterator[Difference]:
    for name in dict.fromkeys([*before, *now]):
        pair = before.get(name), now.get(name)
        if pair[0] != pair[1]:
            yield Difference(name, *pair)


def _hypotheses(before: TrialFolder, now: TrialFolder) -> Iterator[Difference]:
    old, new = ({row["id"]: row["hypothesis"] for row in rows_of(f.hypotheses)} for f in (before, now))
    count = sum(old.get(id) != new.get(id) for id in old.keys() | new.keys())
    if count:
        yield Difference("test utterances recognised differently", 0, count)


def _weights(before: TrialFolder, now: TrialFolder, prunable: list[str]) -> Iterator[Difference]:
    """Numbers of mask bits and of weights that differ, and the largest difference of a weight."""
    old, new = load_file(before.weights), load_file(now.weights)
    masks = sum(int(((old[name] == 0) != (new[name] == 0)).sum()) for name in prunable)
    apart = [(old[name].double() - new[name].double()).abs() for name in new]
    count = sum(int((difference != 0).sum()) for difference in apart)
    if masks:
        yield Difference("weights pruned in one run only", 0, masks)
    if count:
        yield Difference("weights with another value", 0, count)
        yield Difference("largest difference of a weight", 0.0, max(float(d.max()) for d in apart if d.numel()))
