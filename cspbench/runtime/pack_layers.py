"""Packed layers in any model of torch: replace the layers that get faster, leave the others.

>>> fast = packed(model, values="int8")  # the model itself stays as it is
>>> torch.save(fast.state_dict(), "fast.pt")  # packed weights, no dense ones
>>> again = load_packed(model, torch.load("fast.pt", weights_only=True))
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from cspbench.asr.conformer import ConformerEncoder
from cspbench.machine.cpu import check_threads
from cspbench.machine.lock import measuring
from cspbench.runtime import extension
from cspbench.runtime.conformer import NativeConformerEncoder, can_be_native
from cspbench.runtime.layers import (
    FORMAT,
    PackedGRU,
    PackedLayer,
    PackedLayerError,
    PackedLinear,
    PackedLSTM,
    PackedPointwise,
    PackedWeight,
    matrix_of,
)
from cspbench.runtime.packing import SEARCHES, PackedMatrix, pack_matrix

REPLACEMENTS: dict[type[nn.Module], type[PackedLayer]] = {
    nn.Linear: PackedLinear,
    nn.Conv1d: PackedPointwise,
    nn.Conv2d: PackedPointwise,
    nn.LSTM: PackedLSTM,
    nn.GRU: PackedGRU,
}

PAYS = 1.05
"""Ratio of times, the layer of torch over the packed one, from which on it is replaced."""

SMALLEST = 4096
"""Weights below which a layer is not tried: calling it costs more than its product."""

ROUNDS, CALLS = 5, 10


def packed(
    model: nn.Module,
    *,
    values: str = "fp32",
    format: str = "auto",
    threads: int = 1,
    batch: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> nn.Module:
    """Return a copy of a model, in evaluation mode, with its layers on packed weights where that is faster.

    Replaced are `nn.Linear`, `nn.Conv1d` and `nn.Conv2d` with a kernel of one, `nn.LSTM` and `nn.GRU` with float32
    weights, each if it is faster packed than in torch, measured here and now. Everything else stays: subclasses,
    layers with hooks or parametrisations (call `torch.nn.utils.prune.remove` first), projections of
    `nn.MultiheadAttention`. The copy is for inference on the CPU, best with 1 to 16 rows of input a layer and call.
    The encoder of `conformer_transducer` encodes its chunks natively, all layers in one call, if that is faster.

    Outputs of a layer differ from those of torch by at most 1e-5 of their norm in fp32 and, on normal inputs, by 2 % in
    int8 (weights with a scale a row, inputs with a scale a vector) and by 20 % in int4 (inputs as in int8).

    Args:
        model: stays as it is.
        values: fp32, fp16, bf16, int8 or int4: the type of stored weights; see `cspbench.runtime.packing.pack_model`.
        format: ``auto`` measures formats, ``smallest`` takes the fewest bytes; or a format of
            `cspbench.runtime.packing.parse_format`.
        threads: of each product, packed and in torch, while measuring; `set_threads` changes it later.
        batch: rows of input a call, for which a layer is measured.
        progress: called with a line for each layer.

    Returns:
        The copy. `packed_layers` lists its packed matrices; its ``state_dict`` holds them packed (see `load_packed`).

    Raises:
        NativeError: there is no native module.
        ConfigError: more threads than can run at a time.
        PackedLayerError: a model that is not on the CPU.
        PackingError: weights that are not finite, or that the format does not take.
    """
    extension.require("packing layers")
    check_threads(threads)
    if odd := next((name for name, p in model.named_parameters() if p.device.type != "cpu"), None):
        raise PackedLayerError(f"'{odd}' is not on the CPU, where packed layers run: call model.cpu() first")
    replaced: dict[int, PackedLayer] = {}
    for name, layer in _candidates(model):
        if id(layer) in replaced:  # a layer that is used in several places
            continue
        weights = _matrices(layer)
        matrices = {key: _pack(f"{name}.{key}", w, format, values, progress) for key, w in weights.items()}
        candidate = REPLACEMENTS[type(layer)](layer, matrices, threads)
        gain = _gain(layer, candidate, threads, batch)
        progress(f"{name}: {gain:.2f} times as fast packed, {'replaced' if gain >= PAYS else 'stays in torch'}")
        if gain >= PAYS:
            replaced[id(layer)] = candidate
    return _native_where_it_pays(_with(model, replaced), threads, progress)


def load_packed(model: nn.Module, state: Mapping[str, Tensor], threads: int = 1) -> nn.Module:
    """Return a copy of a model with the weights of a state dict that `packed` made, and the same layers packed.

    Args:
        model: of the architecture that was packed; its own weights are not looked at, and it stays as it is.
        state: from ``state_dict()`` of a packed model.
        threads: of each product.

    Raises:
        PackedLayerError: a state of another model, or a damaged one.
    """
    extension.require("packed layers")
    replaced: dict[int, PackedLayer] = {}
    try:
        for name, layer in model.named_modules():
            weights = _matrices(layer)
            prefixes = {key: f"{name}.packed.{key}.".lstrip(".") for key in weights}
            if prefixes and all(prefix + FORMAT in state for prefix in prefixes.values()):
                matrices = {key: matrix_of(state, prefixes[key], tuple(w.shape)) for key, w in weights.items()}
                replaced[id(layer)] = REPLACEMENTS[type(layer)](layer, matrices, threads)
        loaded = _with(model, replaced)
        loaded = _natively(loaded, dict(_native_parts(loaded, threads)))
        loaded.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        raise PackedLayerError(f"this state is not one of a packed model of this architecture: {error}") from error
    return loaded


def packed_layers(model: nn.Module) -> list[dict[str, Any]]:
    """One row for each packed matrix of a model: name, shape, format, values, fraction of zeros, bytes."""
    return [
        {
            "matrix": f"{name}.{key}".lstrip("."),
            "shape": [weight.matrix.rows, weight.matrix.columns],
            "format": weight.matrix.label,
            "values": weight.matrix.values,
            "zeros": weight.matrix.sparsity,
            "bytes": weight.matrix.bytes,
        }
        for name, layer in model.named_modules()
        if isinstance(layer, PackedLayer)
        for key, weight in layer.weights().items()
    ]


def set_threads(model: nn.Module, threads: int) -> None:
    """Set the threads of every product of a packed model.

    Raises:
        ConfigError: more threads than can run at a time.
    """
    check_threads(threads)
    for layer in model.modules():
        if isinstance(layer, PackedWeight | NativeConformerEncoder):
            layer.threads = threads


def _candidates(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in model.named_modules():
        weights = _matrices(layer)
        if weights and sum(w.numel() for w in weights.values()) >= SMALLEST:
            yield name or type(layer).__name__, layer


def _matrices(layer: nn.Module) -> dict[str, Tensor]:
    """The matrices (R, C) of a layer that can be replaced, by name; none of any other module."""
    # Exactly these types: a subclass may do something else, as that of `nn.MultiheadAttention` does.
    if type(layer) not in REPLACEMENTS or parametrize.is_parametrized(layer):
        return {}
    if layer._forward_hooks or layer._forward_pre_hooks:
        return {}
    if isinstance(layer, nn.LSTM | nn.GRU) and layer.proj_size:
        return {}
    if isinstance(layer, nn.Conv1d | nn.Conv2d) and not _is_pointwise(layer):
        return {}
    found = {n: p.detach().flatten(1) for n, p in layer.named_parameters(recurse=False) if n.startswith("weight")}
    return found if all(w.dtype == torch.float32 for w in found.values()) else {}


def _is_pointwise(layer: nn.Conv1d | nn.Conv2d) -> bool:
    ones = {*layer.kernel_size, *layer.stride, layer.groups} == {1}
    return ones and (layer.padding == "valid" or not any(layer.padding))


def _pack(name: str, weight: Tensor, format: str, values: str, progress: Callable[[str], None]) -> PackedMatrix:
    array = weight.cpu().numpy()
    if format in SEARCHES:
        return SEARCHES[format](array, values, name, progress)
    return pack_matrix(array, format, values, name=name)


def _with(model: nn.Module, replaced: Mapping[int, PackedLayer]) -> nn.Module:
    """A copy of a model with some layers, by id, replaced; their dense weights are not copied."""
    made = copy.deepcopy(model, dict(replaced)).eval()
    for module in made.modules():
        # Their fast path reads the weights of their children and multiplies them itself.
        inside = any(isinstance(child, PackedLayer) for child in module.modules())
        if inside and isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
        elif inside and isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
    return made


def _native_where_it_pays(model: nn.Module, threads: int, progress: Callable[[str], None]) -> nn.Module:
    faster = {}
    for encoder, candidate in _native_parts(model, threads):
        gain = _chunk_gain(encoder, candidate, threads)
        progress(f"chunks of the conformer: {gain:.2f} times as fast natively")
        if gain >= PAYS:
            faster[encoder] = candidate
    return _natively(model, faster)


def _native_parts(model: nn.Module, threads: int) -> list[tuple[ConformerEncoder, NativeConformerEncoder]]:
    """The conformer encoders of a model, each with its native one."""
    encoders = [part for part in model.modules() if can_be_native(part)]
    return [(encoder, NativeConformerEncoder(encoder, threads)) for encoder in encoders]


def _natively(model: nn.Module, native: Mapping[ConformerEncoder, NativeConformerEncoder]) -> nn.Module:
    """The model with encoders replaced, in place."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, ConformerEncoder) and child in native:
                setattr(parent, name, native[child])
    return native.get(model, model) if isinstance(model, ConformerEncoder) else model


def _chunk_gain(encoder: ConformerEncoder, candidate: NativeConformerEncoder, threads: int) -> float:
    """Time of a chunk in torch over that of one encoded natively."""
    chunk = encoder.shape.chunk
    x = torch.randn(1, chunk, encoder.shape.inputs, generator=torch.Generator().manual_seed(0))
    before = x.repeat(1, encoder.shape.left // chunk, 1)
    with torch.inference_mode():
        plain, native = encoder.advance(before, None)[1], candidate.advance(before, None)[1]
    return _ratio(lambda: encoder.advance(x, plain), lambda: candidate.advance(x, native), threads)


def _gain(layer: nn.Module, candidate: PackedLayer, threads: int, batch: int) -> float:
    """Time of a layer in torch over that of its packed one, both on random inputs."""
    layer = copy.copy(layer).eval() if layer.training else layer
    x = _inputs(layer, batch)
    return _ratio(lambda: layer(x), lambda: candidate(x), threads)


def _ratio(slow: Callable[[], object], fast: Callable[[], object], threads: int) -> float:
    """Median over rounds of the time of one call over that of another."""
    ratios = []
    with measuring(), _threads(threads), torch.inference_mode():
        for _ in range(ROUNDS + 1):
            ratios.append(_seconds(slow) / _seconds(fast))
    return statistics.median(ratios[1:])


def _inputs(layer: nn.Module, batch: int) -> Tensor:
    shape: tuple[int, ...]
    if isinstance(layer, nn.LSTM | nn.GRU):
        shape = (batch, 1, layer.input_size) if layer.batch_first else (1, batch, layer.input_size)
    elif isinstance(layer, nn.Conv1d | nn.Conv2d):
        shape = (1, layer.in_channels, batch, *(1,) * (len(layer.kernel_size) - 1))
    else:
        assert isinstance(layer, nn.Linear)
        shape = (batch, layer.in_features)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _seconds(call: Callable[[], object]) -> float:
    """Median seconds of a call, after one that is not counted."""
    times = []
    for _ in range(CALLS + 1):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
