"""Scores that several methods rank weights by."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def magnitudes(weights: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """``|w|`` by name; minus infinity outside `masks`, so that a dropped weight ranks behind every kept one."""
    sizes = {name: weight.detach().abs() for name, weight in weights.items()}
    if masks is None:
        return sizes
    return {name: size.masked_fill_(~masks[name], -torch.inf) for name, size in sizes.items()}


def random_scores(weights: Mapping[str, Tensor], *seed: int) -> dict[str, Tensor]:
    """Numbers uniform in [0, 1) in the shape of each weight, by name; the same for the same seed on every device."""
    entropy = 0
    for part in seed:
        entropy = entropy * 1_000_003 + part
    generator = torch.Generator().manual_seed(entropy % 2**63)
    return {name: torch.rand(w.shape, generator=generator).to(w.device) for name, w in weights.items()}
