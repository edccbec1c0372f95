"""Responses of the trained dense recogniser to the utterances that calibrate a pruned one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from cspbench.asr.model import Transducer, observe_inputs, prunable_weights
from cspbench.store import DenseFolder
from cspbench.training.checkpoint import load_model
from cspbench.training.speech import Speech


def teacher_responses(
    dense: DenseFolder, model: Transducer, speech: Speech, names: list[str], utterances: int
) -> Callable[..., dict[str, Tensor]]:
    """Return a function that computes ``E[z x^T]`` of each named matrix, see `PruningContext.responses`.

    Args:
        dense: holds the dense recogniser, which is loaded when the function is first called.
        model: the recogniser that is pruned; its inputs are x.
        speech: calibration utterances.
        names: of weight matrices.
        utterances: taken where the caller does not say how many.
    """

    @cache
    def teacher() -> Transducer:
        return load_model(dense.path).model.to(model.device).eval()

    def responses(utterances: int = utterances, skip: int = 0) -> dict[str, Tensor]:
        weights = prunable_weights(teacher())
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        taught: dict[str, Tensor] = {}

        def see(name: str, inputs: Tensor) -> None:
            if name in names:
                response = taught.pop(name) @ weights[name].T  # (n, out)
                sums[name] = sums.get(name, 0) + response.T @ inputs
                counts[name] = counts.get(name, 0) + len(inputs)

        was_training = model.training
        model.eval()
        with torch.no_grad():
            for batch in (b.to(model.device) for b in speech.calibration(utterances, skip)):
                features = model.normalise(batch.features)
                rest = (features, batch.frames, batch.targets, batch.labels)
                observe_inputs(teacher(), *rest, taught.__setitem__)
                observe_inputs(model, *rest, see)
        model.train(was_training)
        return {name: sums[name] / counts[name] for name in names}

    return responses
