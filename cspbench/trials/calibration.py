"""Measurements of a trial on calibration utterances: inputs of each matrix, responses of the dense recogniser.

Padding is left out, and of the joint's lattice every fourth frame is enough: the recogniser shows its own inputs
(`observe_inputs`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from torch import Tensor

from cspbench.asr.model import Transducer, observe_inputs, prunable_weights
from cspbench.pruning.moments import MeanProducts, observing
from cspbench.store import DenseFolder
from cspbench.training.checkpoint import load_model
from cspbench.training.speech import Speech

CALIBRATION_UTTERANCES = 192
"""Utterances of a measurement whose caller does not say how many."""


def input_grams(model: Transducer, speech: Speech, names: list[str]) -> Callable[..., dict[str, Tensor]]:
    """Return a function that computes ``E[x x^T]`` of each named matrix's inputs, see `PruningContext.grams`."""
    wanted = set(names)

    def grams(utterances: int = CALIBRATION_UTTERANCES, skip: int = 0) -> dict[str, Tensor]:
        products = MeanProducts()

        def see(name: str, inputs: Tensor) -> None:
            if name in wanted:
                products.add(name, inputs, inputs)

        with observing(model):
            for batch in _batches(model, speech, utterances, skip):
                observe_inputs(model, *batch, see)
        return products.means(names)

    return grams


def teacher_responses(
    dense: DenseFolder, model: Transducer, speech: Speech, names: list[str]
) -> Callable[..., dict[str, Tensor]]:
    """Return a function that computes ``E[z x^T]`` of each named matrix, see `PruningContext.responses`.

    Args:
        dense: holds the dense recogniser, which is loaded when the function is first called.
        model: the recogniser that is pruned; its inputs are x.
        speech: calibration utterances.
        names: of weight matrices.
    """

    @cache
    def teacher() -> Transducer:
        return load_model(dense.path).model.to(model.device).eval()

    def responses(utterances: int = CALIBRATION_UTTERANCES, skip: int = 0) -> dict[str, Tensor]:
        weights = prunable_weights(teacher())
        products = MeanProducts()
        taught: dict[str, Tensor] = {}

        def see(name: str, inputs: Tensor) -> None:
            if name in names:
                products.add(name, taught.pop(name) @ weights[name].T, inputs)

        with observing(model):
            for batch in _batches(model, speech, utterances, skip):
                observe_inputs(teacher(), *batch, taught.__setitem__)
                observe_inputs(model, *batch, see)
        return products.means(names)

    return responses


def _batches(
    model: Transducer, speech: Speech, utterances: int, skip: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Normalised features, frames, targets and labels of calibration batches."""
    for batch in (b.to(model.device) for b in speech.calibration(utterances, skip)):
        yield model.normalise(batch.features), batch.frames, batch.targets, batch.labels
