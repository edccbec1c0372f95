"""Works whose zeros a pruning method has chosen.

S is the encoder of a pruned model of the preset `small` itself. No pruned model has the shape of L: its matrices get
normal weights and zeros of which as many fall on each row and each column as the pruned encoder suggests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cspbench.bench.peers.workload import SIZES, Layer, Work, given_work, masked_work
from cspbench.errors import ConfigError
from cspbench.runtime.packing import PackedModel, open_model


def pruned_work(model: str, source: PackedModel, seed: int = 0) -> Work:
    """The work with the zeros of a pruned recogniser.

    Raises:
        ConfigError: an encoder of another shape than S.
    """
    layers = encoder_layers(source)
    zeros = 1 - sum(np.count_nonzero(x.weight) for x in layers) / sum(x.weight.size for x in layers)
    if model != "S":
        masks = like(layers, model, np.random.default_rng(seed))
        return masked_work(model, float(zeros), "like a pruned encoder's", masks, seed)
    wanted = [(4 * SIZES["S"].width, SIZES["S"].columns(i)) for i in range(SIZES["S"].layers)]
    if [layer.weight.shape for layer in layers] != wanted:
        raise ConfigError("S is the encoder of the preset 'small' with default features; this one has another shape")
    return given_work(model, float(zeros), "pruned encoder", layers, seed)


def open_pruned(folder: Path) -> PackedModel:
    """A pruned model, unpacked to dense matrices."""
    return open_model(folder, format="dense")


def encoder_layers(source: PackedModel) -> list[Layer]:
    """The LSTM layers of the encoder, bottom first."""
    found: list[Layer] = []
    while (name := f"encoder.layers.{len(found)}") in source.matrices:
        bias = source.vectors[f"{name}.bias_ih_l0"] + source.vectors[f"{name}.bias_hh_l0"]
        found.append(Layer(np.array(source.matrices[name].dense()), np.array(bias)))
    return found


def like(layers: Sequence[Layer], model: str, rng: np.random.Generator) -> list[np.ndarray]:
    """Masks (4H, in + H) for another size: the first layer like the first, the others like the others in rotation."""
    size = SIZES[model]
    masks = []
    for index in range(size.layers):
        source = layers[0] if index == 0 else layers[1 + (index - 1) % (len(layers) - 1)] if layers[1:] else layers[0]
        kept = source.weight != 0
        parts = []
        inputs = source.inputs
        recurrent = size.width
        for part, columns in ((kept[:, :inputs], size.columns(index) - recurrent), (kept[:, inputs:], recurrent)):
            parts.append(stretched(part, 4 * size.width, columns, rng))
        masks.append(np.concatenate(parts, axis=1))
    return masks


def stretched(mask: np.ndarray, rows: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """A larger mask of the same density whose rows and columns are as unevenly filled.

    Every row takes the filling of a row of `mask` at the same relative place, so that gates keep theirs; every column
    that of any column. Places are then drawn without replacement, in proportion to the product of both.
    """
    by_row = mask.mean(1)[np.arange(rows) * len(mask) // rows]
    by_column = rng.choice(mask.mean(0), columns)
    chances = np.outer(by_row, by_column).astype(np.float32)
    wanted = round(mask.mean() * rows * columns)
    # The smallest of exponential waiting times at these rates are such a draw (Efraimidis and Spirakis 2006).
    with np.errstate(divide="ignore"):
        waits = rng.standard_exponential((rows, columns), dtype=np.float32) / chances
    kept = np.zeros(rows * columns, dtype=bool)
    kept[np.argpartition(waits, wanted - 1, axis=None)[:wanted]] = True
    return kept.reshape(rows, columns)
