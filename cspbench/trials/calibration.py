"""Measurements of a trial on calibration utterances: inputs of each matrix, responses of the dense recogniser."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

from torch import Tensor

from cspbench.asr.speech_model import SpeechModel, prunable_weights
from cspbench.corpora.batches import Batch
from cspbench.pruning.inputs import check_seen, positions, repeatable, watching
from cspbench.pruning.moments import MeanProducts
from cspbench.store import DenseFolder
from cspbench.training.checkpoint import load_model
from cspbench.training.speech import Speech

CALIBRATION_UTTERANCES = 192
"""Utterances of a measurement whose caller does not say how many."""


def input_grams(model: SpeechModel, speech: Speech, names: list[str]) -> Callable[..., dict[str, Tensor]]:
    """Return a function that computes ``E[x x^T]`` of each named matrix's inputs, see `PruningContext.grams`."""

    def grams(utterances: int = CALIBRATION_UTTERANCES, skip: int = 0) -> dict[str, Tensor]:
        products = MeanProducts()

        with repeatable(model, seed=0):
            for batch in _batches(model, speech, utterances, skip):
                _observe(model, batch, names, lambda name, inputs: products.add(name, inputs, inputs))
        check_seen(products, names)
        return products.means(names)

    return grams


def teacher_responses(
    dense: DenseFolder, model: SpeechModel, speech: Speech, names: list[str]
) -> Callable[..., dict[str, Tensor]]:
    """Return a function that computes ``E[z x^T]`` of each named matrix, see `PruningContext.responses`.

    Args:
        dense: holds the dense recogniser, which is loaded when the function is first called.
        model: the recogniser that is pruned; its inputs are x.
        speech: calibration utterances.
        names: of weight matrices.
    """

    @cache
    def teacher() -> SpeechModel:
        return load_model(dense.path).model.to(model.device).eval()

    def responses(utterances: int = CALIBRATION_UTTERANCES, skip: int = 0) -> dict[str, Tensor]:
        weights = prunable_weights(teacher())
        products = MeanProducts()
        taught: dict[str, list[Tensor]] = defaultdict(list)

        def see(name: str, inputs: Tensor) -> None:
            products.add(name, taught[name].pop(0) @ weights[name].flatten(1).T, inputs)

        with repeatable(model, seed=0):
            for batch in _batches(model, speech, utterances, skip):
                _observe(teacher(), batch, names, lambda name, inputs: taught[name].append(inputs))
                _observe(model, batch, names, see)
        check_seen(products, names)
        return products.means(names)

    return responses


def _observe(model: SpeechModel, batch: Batch, names: list[str], see: Callable[[str, Tensor], None]) -> None:
    """Call `see(name, inputs (n, in))` with what the named matrices multiply on a batch, padding left out."""
    weights = prunable_weights(model)
    with watching(model, {name: weights[name] for name in names}, see):
        model.calibrate(batch, positions)


def _batches(model: SpeechModel, speech: Speech, utterances: int, skip: int) -> Iterator[Batch]:
    """Calibration batches with normalised features."""
    for batch in (b.to(model.device) for b in speech.calibration(utterances, skip)):
        yield replace(batch, features=model.normalise(batch.features))
