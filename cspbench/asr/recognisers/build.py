"""Recognisers made from specs."""

from __future__ import annotations

import torch

from cspbench.asr.speech_model import SpeechModel, prunable_weights, recognisers
from cspbench.spec import FeatureSpec, ModelSpec


def build_model(spec: ModelSpec, features: FeatureSpec, units: int) -> SpeechModel:
    """Make the recogniser of a spec with fresh weights; see `SpeechModel.build`.

    Raises:
        ConfigError: no such recogniser, or options that it does not take.
    """
    kind = recognisers.get(spec.name)
    kind.options(spec)  # whether it looks at them or not
    model = kind.build(spec, features, units)
    model.spec = spec
    return model


def with_options(spec: ModelSpec) -> ModelSpec:
    """Return a spec with all options of its recogniser, so that another default changes no identity."""
    kind = recognisers.get(spec.name)
    return spec.model_copy(update={"options": kind.options(spec).model_dump(mode="json")})


def prunable_shapes(spec: ModelSpec, features: FeatureSpec, units: int) -> dict[str, tuple[int, int]]:
    """Return the shape (out, in) of every prunable matrix by name, without making any weights.

    Args:
        spec: the recogniser.
        features: its input.
        units: size of the vocabulary, on which the shape of the output layer depends and no name does.
    """
    with torch.device("meta"):
        made = build_model(spec, features, units)
    return {name: (weight.shape[0], weight.shape[1]) for name, weight in prunable_weights(made).items()}
