"""A conformer encoder whose chunks are encoded by the native module, from packed weights and those left dense.

In torch a chunk of a few frames is some thirty small operations a layer, most of whose time is calling them.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from cspbench.asr.conformer import Block, ConformerEncoder
from cspbench.runtime import extension
from cspbench.runtime.layers import PackedLinear, plain
from cspbench.runtime.packing import pack_matrix

StackedCache = tuple[Tensor, Tensor, Tensor]
"""Of all blocks: keys and values (layers, N, L, H), gated inputs of the convolution (layers, N, K - 1, H)."""


class NativeConformerEncoder(ConformerEncoder):
    """A `ConformerEncoder` with the same layers, for inference on the CPU. `encode` runs in torch, `advance` natively.

    Args:
        encoder: gives its layers; linear ones may be packed.
        threads: of a product.
    """

    def __init__(self, encoder: ConformerEncoder, threads: int = 1) -> None:
        nn.Module.__init__(self)
        self.shape, self.projection, self.blocks = encoder.shape, encoder.projection, encoder.blocks
        self.threads = threads
        self._native: Any = None
        self.train(encoder.training)

    def advance(self, features: Tensor, state: Any) -> tuple[Tensor, list[StackedCache]]:
        """Encode the chunks that follow a state, see `ConformerEncoder.advance`; the state is of all blocks at once."""
        if len(features) != 1:
            return self._each(features, state)
        if self._native is None:
            self._native = native_conformer(self)
        cache = self._start() if state is None else tuple(plain(part[:, 0]) for part in state[0])
        encoded = []
        for chunk in features[0].split(self.shape.chunk):
            y, *cache = self._native.advance(plain(chunk), *cache, self.threads)
            encoded.append(torch.from_numpy(y))
        keys, values, gated = (torch.from_numpy(part)[:, None] for part in cache)
        return (encoded[0] if len(encoded) == 1 else torch.cat(encoded))[None], [(keys, values, gated)]

    def _each(self, features: Tensor, state: Any) -> tuple[Tensor, list[StackedCache]]:
        """Advance several streams (N, T, C), one after the other."""
        before = [None if state is None else [tuple(x[:, n : n + 1] for x in state[0])] for n in range(len(features))]
        pairs = [self.advance(x[None], own) for x, own in zip(features, before, strict=True)]
        keys, values, gated = (torch.cat(parts, dim=1) for parts in zip(*(after[0] for _, after in pairs), strict=True))
        return torch.cat([encoded for encoded, _ in pairs]), [(keys, values, gated)]

    def _start(self) -> tuple[np.ndarray, ...]:
        nothing = np.zeros((self.shape.layers, 0, self.shape.width), np.float32)
        silence = np.zeros((self.shape.layers, self.shape.kernel - 1, self.shape.width), np.float32)
        return nothing, nothing, silence

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_native": None}

    # The native encoder is made anew when the weights have been changed.

    def _apply(self, *arguments: Any, **options: Any) -> Any:
        self._native = None
        return super()._apply(*arguments, **options)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._native = None
        super()._load_from_state_dict(*arguments)


def can_be_native(module: nn.Module) -> TypeGuard[ConformerEncoder]:
    """Return whether a module is a conformer encoder with nothing attached to its layers."""
    return type(module) is ConformerEncoder and not any(
        part._forward_hooks or part._forward_pre_hooks or hasattr(part, "parametrizations") for part in module.modules()
    )


def native_conformer(encoder: ConformerEncoder) -> Any:
    """Make the native encoder of the weights as they are now.

    Raises:
        NativeError: there is no native module.
    """
    shape = encoder.shape
    return extension.require("encoding chunks natively").make_conformer(
        projection=_affine(encoder.projection),
        blocks=[_block(block) for block in encoder.blocks],  # type: ignore[arg-type]
        heads=shape.heads,
        kernel=shape.kernel,
        chunk=shape.chunk,
        left=shape.left,
    )


def _block(block: Block) -> dict[str, tuple[Any, ...]]:
    attention, convolution = block.attention, block.convolution
    taps = _array(convolution.depthwise.weight[:, 0].T)  # (kernel, H)
    return {
        "first": _feed_forward(block.first),
        "attention_norm": _norm(attention.norm),
        "attention_inputs": _affine(attention.inputs),
        "attention_output": _affine(attention.output),
        "convolution_norm": _norm(convolution.norm),
        "gate": _affine(convolution.gate),
        "taps": (taps, _array(convolution.depthwise.bias)),
        "convolution_normalise": _norm(convolution.normalise),
        "convolution_output": _affine(convolution.output),
        "second": _feed_forward(block.second),
        "norm": _norm(block.norm),
    }


def _feed_forward(layers: nn.Sequential) -> tuple[Any, ...]:
    norm, widen, _, _, narrow, _ = layers
    return _norm(norm), _affine(widen), _affine(narrow)


def _affine(layer: nn.Module) -> tuple[Any, np.ndarray]:
    """The packed matrix of a linear layer, dense where it is not packed, and its bias."""
    if isinstance(layer, PackedLinear):
        return layer.weights()["weight"].native, _array(layer.bias)
    return pack_matrix(_array(layer.weight), "dense").native(), _array(layer.bias)


def _norm(layer: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    return _array(layer.weight), _array(layer.bias)


def _array(tensor: Any) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().float().numpy())
