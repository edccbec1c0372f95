"""Dense recognisers trained several at once on GPUs, ahead of the trials that start from them."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from cspbench.machine import stop
from cspbench.spec import DenseSpec
from cspbench.store import Store
from cspbench.training.dense import resolve_device, train_dense
from cspbench.training.events import Event
from cspbench.trials.gpus import take_place

Start = Callable[[int, DenseSpec], BaseProcess]


def train_ahead(
    dense: Iterable[DenseSpec],
    workers: int,
    store: Store,
    device: str,
    progress: Callable[[DenseSpec, Event], None],
) -> None:
    """Train what is missing in processes of its own, if there are GPUs: one recogniser leaves most of a GPU idle.

    A training that fails is left to whoever needs it next, who then sees why. On a CPU nothing is done: there one
    training at a time has all cores.

    Args:
        dense: what to train.
        workers: trainings at a time.
        store: keeps them.
        device: as in a sweep file.
        progress: called when a training begins.

    Raises:
        KeyboardInterrupt: a stop was requested, and all trainings have stopped at a checkpoint.
    """
    missing = deque({spec.id: spec for spec in dense if not store.dense(spec.id).finished}.values())
    if len(missing) < 2 or workers < 2 or resolve_device(device).type != "cuda":
        return
    context = multiprocessing.get_context("spawn")
    together = min(workers, len(missing))

    def start(place: int, spec: DenseSpec) -> BaseProcess:
        progress(spec, Event("dense", message=f"dense recognisers train, {together} at a time"))
        arguments = (spec.model_dump_json(), str(store.root), place, together, device)
        process = context.Process(target=_train, args=arguments, daemon=True)
        process.start()
        return process

    _run(missing, together, start)
    stop.check()


def _run(missing: deque[DenseSpec], together: int, start: Start) -> None:
    """Start trainings as places become free, until none is left or a stop is requested."""
    running: dict[int, BaseProcess] = {}
    asked = False
    try:
        while running or (missing and not stop.requested()):
            for place in range(together):
                if missing and not stop.requested() and place not in running:
                    running[place] = start(place, missing.popleft())
            wait([*(process.sentinel for process in running.values()), *([] if asked else [stop.descriptor()])])
            if stop.requested() and not asked:
                asked = True
                for process in running.values():
                    process.terminate()  # it goes on to its next checkpoint
            running = {place: process for place, process in running.items() if process.is_alive()}
    finally:
        for process in running.values():
            process.kill()
            process.join()


def _train(spec: str, root: str, index: int, workers: int, device: str) -> None:
    """Main function of a process: train one recogniser."""
    stop.obey_parent()
    with suppress(Exception, KeyboardInterrupt):  # who needs the recogniser next sees what is wrong
        train_dense(DenseSpec.model_validate_json(spec), Store(root), device=take_place(index, workers, device))
