"""The work that engines compete in: one step of a stack of LSTM layers, or one linear layer or product, with zeros."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

STEPS = 8
"""Inputs of a work: outputs are checked over so many steps, and timed steps take them in order."""


@dataclass(frozen=True)
class Size:
    """Sizes of a stack of LSTM layers."""

    layers: int
    width: int
    inputs: int

    def columns(self, layer: int) -> int:
        """Columns of the joined matrix of a layer: its inputs and its own width."""
        return (self.width if layer else self.inputs) + self.width


SIZES = {"L": Size(5, 1024, 640), "S": Size(2, 256, 120)}
"""L: the encoder of a large transducer, 40.4 M weights. S: that of the preset `small`, 0.92 M."""


Kind = Literal["lstm", "linear", "4x4", "8x4"]
LINEAR = "linear"
LINEAR_SHAPE = 4096, 1024
"""Rows and columns of `nn.Linear(1024, 4096)`: the first of a transformer's feed-forward block."""

BLOCKS = "blocks"
BLOCK_SHAPES = {"1024x512": (1024, 512), "4096x2016": (4096, 2016)}
"""Matrices whose zeros fill blocks: one layer of S, and about one of L (Opus holds no more than 2024 columns)."""


@dataclass(frozen=True)
class Layer:
    """One LSTM layer: input and recurrent matrix joined, (4H, in + H); bias (4H,). Gates i f g o, as in torch."""

    weight: np.ndarray
    bias: np.ndarray

    @property
    def width(self) -> int:
        return len(self.bias) // 4

    @property
    def inputs(self) -> int:
        return self.weight.shape[1] - self.width


@dataclass(frozen=True)
class Work:
    """A stack of LSTM layers and inputs for some time steps.

    Attributes:
        model: name of the size.
        zeros: fraction of zeros that was asked for.
        mask: origin of the zeros, in words.
        layers: bottom first.
        inputs: (STEPS, C) float32, about normal.
    """

    model: str
    zeros: float
    mask: str
    layers: tuple[Layer, ...]
    inputs: np.ndarray

    kind: ClassVar[Kind] = "lstm"

    @property
    def weights(self) -> int:
        return sum(layer.weight.size for layer in self.layers)

    @property
    def nonzeros(self) -> int:
        return sum(int(np.count_nonzero(layer.weight)) for layer in self.layers)

    @cached_property
    def reference(self) -> np.ndarray:
        """Outputs of the top layer from a state of zeros, (STEPS, H), computed in 64 bits."""
        x = self.inputs.astype(np.float64)
        for layer in self.layers:
            x = _lstm(layer, x)
        return x


@dataclass(frozen=True)
class LinearWork(Work):
    """A linear layer, the one of `layers`: weight (R, C), bias (R,); a step is a product with one vector."""

    kind: ClassVar[Kind] = "linear"

    @cached_property
    def reference(self) -> np.ndarray:
        """Outputs (STEPS, R), computed in 64 bits."""
        layer = self.layers[0]
        return self.inputs.astype(np.float64) @ layer.weight.T.astype(np.float64) + layer.bias


@dataclass(frozen=True)
class Blocks4x4Work(LinearWork):
    """A linear layer whose zeros fill blocks of 4 rows and 4 columns."""

    kind: ClassVar[Kind] = "4x4"


@dataclass(frozen=True)
class Blocks8x4Work(LinearWork):
    """A linear layer whose zeros fill blocks of 8 rows and 4 columns."""

    kind: ClassVar[Kind] = "8x4"


BLOCK_WORKS = (Blocks4x4Work, Blocks8x4Work)
LINEAR_WORKS: dict[Kind, type[LinearWork]] = {work.kind: work for work in (LinearWork, *BLOCK_WORKS)}


def block_work(made: type[LinearWork], shape: str, zeros: float, seed: int = 0) -> LinearWork:
    """Normal weights of a shape of `BLOCK_SHAPES` with ``round(zeros * n)`` of n blocks zero, at random places.

    There is no bias, and inputs lie in (-1, 1), as a codec's do.
    """
    rng = np.random.default_rng(seed)
    rows, columns = BLOCK_SHAPES[shape]
    height, width = block_of(made.kind)
    blocks = _random_mask(rng, (rows // height, columns // width), zeros)
    layer = _layer(rng, np.repeat(np.repeat(blocks, height, 0), width, 1))
    layers = (Layer(layer.weight, np.zeros(rows, np.float32)),)
    return made(f"{made.kind}:{shape}", zeros, f"random blocks of {made.kind}", layers, np.tanh(_noise(rng, columns)))


def block_of(kind: Kind) -> tuple[int, int]:
    """Rows and columns of the blocks of a kind such as ``8x4``."""
    height, width = map(int, kind.split("x"))
    return height, width


def random_work(model: str, zeros: float, seed: int = 0, size: Size | None = None) -> Work:
    """Normal weights with exactly ``round(zeros * n)`` zeros of the n of each matrix, at random places.

    The others are scaled so that gates stay in the range where they matter, however many there are.
    """
    rng = np.random.default_rng(seed)
    if model == LINEAR:
        return LinearWork(
            model, zeros, "random", (_layer(rng, _random_mask(rng, LINEAR_SHAPE, zeros)),), _noise(rng, LINEAR_SHAPE[1])
        )
    size = size or SIZES[model]
    layers = []
    for index in range(size.layers):
        shape = 4 * size.width, size.columns(index)
        layers.append(_layer(rng, _random_mask(rng, shape, zeros)))
    return Work(model, zeros, "random", tuple(layers), _noise(rng, size.inputs))


def masked_work(model: str, zeros: float, mask: str, masks: Sequence[np.ndarray], seed: int = 0) -> Work:
    """Normal weights under given masks (4H, in + H), True where a weight stays."""
    rng = np.random.default_rng(seed)
    layers = tuple(_layer(rng, keep) for keep in masks)
    return Work(model, zeros, mask, layers, _noise(rng, layers[0].inputs))


def given_work(model: str, zeros: float, mask: str, layers: Sequence[Layer], seed: int = 0) -> Work:
    """Weights as they are."""
    return Work(model, zeros, mask, tuple(layers), _noise(np.random.default_rng(seed), layers[0].inputs))


def full_range_work(kind: Kind) -> Work:
    """Equal weights and inputs of 1: in int8 each is the largest number there is, and two products fill 17 bits.

    An engine that adds products in 16 bits, as `vpmaddubsw` does, saturates on it. Sums before a nonlinearity are 0.5.
    """
    size = Size(layers=1, width=64, inputs=64)
    columns = size.columns(0)
    weight = np.full((4 * size.width, columns), 0.5 / columns, np.float32)
    layers = (Layer(weight, np.zeros(len(weight), np.float32)),)
    if kind != "lstm":
        return LINEAR_WORKS[kind](kind, 0.0, "none", layers, np.ones((STEPS, columns), np.float32))
    return Work("S", 0.0, "none", layers, np.ones((STEPS, size.inputs), np.float32))


def _random_mask(rng: np.random.Generator, shape: tuple[int, int], zeros: float) -> np.ndarray:
    keep = np.ones(shape, dtype=bool)
    count = round(zeros * keep.size)
    if count:
        keep.flat[np.argpartition(rng.random(keep.size, dtype=np.float32), count - 1)[:count]] = False
    return keep


def _layer(rng: np.random.Generator, keep: np.ndarray) -> Layer:
    fan_in = max(1.0, keep.sum() / len(keep))
    weight = rng.standard_normal(keep.shape, dtype=np.float32) * keep / np.float32(np.sqrt(fan_in))
    return Layer(weight, 0.1 * rng.standard_normal(len(keep), dtype=np.float32))


def _noise(rng: np.random.Generator, inputs: int) -> np.ndarray:
    return rng.standard_normal((STEPS, inputs), dtype=np.float32)


def _lstm(layer: Layer, x: np.ndarray) -> np.ndarray:
    weight, bias = layer.weight.astype(np.float64), layer.bias.astype(np.float64)
    hidden = cell = np.zeros(layer.width)
    outputs = []
    for vector in x:
        gates = weight @ np.concatenate([vector, hidden]) + bias
        i, f, g, o = gates.reshape(4, -1)
        cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
        hidden = _sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
    return np.stack(outputs)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(x / 2))
