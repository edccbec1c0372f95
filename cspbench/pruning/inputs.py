"""Inputs of the weight matrices of any model, seen by forward hooks while calibration data runs.

Every kind of layer has an observer, a function that yields what each of its matrices multiplied in a call. A layer of
your own gets one by `observes`:

>>> @observes(MyCell)
... def _my_cell(cell, args, kwargs, output):
...     yield "weight", args[0]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from cspbench.errors import PruningError
from cspbench.pruning.moments import MeanProducts, observing

Observer = Callable[[Any, tuple[Any, ...], dict[str, Any], Any], Iterable[tuple[str, Tensor]]]
"""From a module, the arguments and keyword arguments of a call and its output: names of parameters within the module,
and what each matrix multiplied, (n, in)."""

Calibration = Callable[[], Iterable[object] | None]
"""Runs a model on calibration data, either by itself or as the iterable that it returns is drawn."""

ROWS = 4096
"""Inputs of another type that are converted to float32, and shown, at a time: bounds the memory that takes."""

_observers: dict[type[nn.Module], Observer] = {}
_counted: list[Tensor] = []


def observes(*kinds: type[nn.Module]) -> Callable[[Observer], Observer]:
    """Return a decorator that makes a function the observer of kinds of modules and of their subclasses."""

    def add(observer: Observer) -> Observer:
        _observers.update(dict.fromkeys(kinds, observer))
        return observer

    return add


@contextmanager
def positions(mask: Tensor) -> Iterator[None]:
    """Leave padding out of what is measured while a calibration batch runs.

    Inputs of linear, recurrent and attention layers, and outputs of `nn.Conv1d`, that have the shape of the mask count
    where it is True. Where the number of frames is another, as after subsampling, all count. Of inputs that are not
    said to be time first, the first dimension is taken for the utterances if both fit.

    Args:
        mask: bool, (N, T), True where there is speech.

    Example:
        >>> def calibration():
        ...     for x, lengths in batches:
        ...         with positions(torch.arange(x.shape[1]) < lengths[:, None]):
        ...             yield model(x)
    """
    _counted.append(mask)
    try:
        yield
    finally:
        _counted.pop()


def _rows(x: Tensor, time_first: bool | None = None) -> Tensor:
    """Inputs (n, C) that count, of (N, T, C), (T, N, C) or any other shape."""
    if _counted and x.dim() > 2:
        mask = _counted[-1].to(x.device)
        if time_first is not True and x.shape[:2] == mask.shape:
            x = x[mask]
        elif time_first is not False and x.shape[:2] == mask.T.shape:
            x = x[mask.T]
    return x.reshape(-1, x.shape[-1])


def observer_of(module: nn.Module) -> Observer | None:
    """Return the observer of a module's class or of the nearest class that it inherits from."""
    return next((_observers[kind] for kind in type(module).__mro__ if kind in _observers), None)


def input_moments(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], calibration: Calibration, seed: int = 0, group: Any = None
) -> Callable[..., dict[str, Tensor]]:
    """Return a function that measures ``E[x x^T]`` of each matrix's inputs, for `PruningContext.grams`.

    Each measurement runs all the calibration data, in evaluation mode, without gradients and with the random numbers of
    `seed`, which leaves those of the training alone. The function takes what `PruningContext.grams` takes and ignores
    it. Sums are float32, and memory is that of the results, whatever the amount of data.

    A matrix that several layers share sees the inputs of all. Groups of a convolution, and the queries, keys and values
    that one matrix of `nn.MultiheadAttention` projects, count as inputs of one matrix: their mean is taken.

    Args:
        model: not wrapped, see `cspbench.pruning.matrices.unwrapped`.
        parameters: by name, as they are in the model.
        calibration: runs the model, wrapped or not.
        seed: of random numbers that `calibration` draws from torch.
        group: processes whose calibration data count together; None for this process alone.
    """

    def grams(utterances: int = 0, skip: int = 0) -> dict[str, Tensor]:
        products = MeanProducts()
        with watching(model, parameters, lambda name, x: products.add(name, x, x)), repeatable(model, seed):
            for _ in calibration() or ():
                pass
        check_seen(products, parameters)
        if group is not None:
            products.reduce(group)
        return products.means(parameters)

    return grams


def check_seen(products: MeanProducts, names: Iterable[str]) -> None:
    """Raise PruningError if calibration has shown no input of a matrix."""
    if unseen := [name for name in names if name not in products]:
        raise PruningError(
            f"calibration showed no input of {', '.join(unseen)}: run the parts of the model they belong to, "
            "register their layers with cspbench.pruning.inputs.observes, or leave them out of `prunable`"
        )


@contextmanager
def watching(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], see: Callable[[str, Tensor], None]
) -> Iterator[None]:
    """Call `see` with the name of a parameter and its inputs (n, in), float32; what has to be converted in chunks."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    busy = False  # an observer that calls its module again is not observed

    def watch(module: nn.Module, observer: Observer, own: Mapping[str, str]) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            nonlocal busy
            if busy:
                return
            busy = True
            try:
                for name, inputs in observer(module, args, kwargs, output):
                    if name in own:
                        _show(own[name], inputs, see)
            finally:
                busy = False

        return module.register_forward_hook(hook, with_kwargs=True)

    with ExitStack() as stack:
        for module in model.modules():
            own = {n: names[id(p)] for n, p in module.named_parameters(remove_duplicate=False) if id(p) in names}
            observer = observer_of(module)
            if own and observer is not None:
                stack.callback(watch(module, observer, own).remove)
        yield


def _show(name: str, inputs: Tensor, see: Callable[[str, Tensor], None]) -> None:
    # Whatever mode the model runs in: sums of squares neither fit float16 nor survive bfloat16.
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
        # What is float32 already is shown at once: sums do not depend on a division that saves no memory.
        for chunk in (inputs,) if inputs.dtype == torch.float32 else inputs.split(ROWS):
            see(name, chunk.float())


@contextmanager
def repeatable(model: nn.Module, seed: int) -> Iterator[None]:
    """Evaluation mode, seeded random numbers, and every layer called as a module, compiled or not."""
    devices = {p.device.index for p in model.parameters() if p.device.type == "cuda"}
    fast = torch.backends.mha.get_fastpath_enabled()
    with ExitStack() as stack:
        stack.enter_context(observing(model))
        stack.enter_context(torch.random.fork_rng(devices=sorted(d for d in devices if d is not None)))
        torch.manual_seed(seed)
        torch.backends.mha.set_fastpath_enabled(False)  # calls none of its layers
        stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
        if "torch._dynamo" in sys.modules:  # compiled code does not call hooks that are newer than it
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@observes(nn.Linear)
def _linear(layer: nn.Linear, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Iterator[Any]:
    x, *_ = (*args, *kwargs.values())
    yield "weight", _rows(x)


@observes(nn.Conv1d, nn.Conv2d)
def _convolution(
    layer: nn.Conv1d | nn.Conv2d, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> Iterator[Any]:
    """Windows of one example after the other: all at once they take the kernel's size times the memory of the input."""
    x, *_ = (*args, *kwargs.values())
    sizes = (layer.kernel_size, layer.dilation, layer.stride)
    dimensions = len(layer.kernel_size)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = pad(x, layer._reversed_padding_repeated_twice, mode)
    for index, example in enumerate(padded.reshape(-1, *padded.shape[-dimensions - 1 :])):
        if dimensions == 1:  # as an image of one row
            example = example[:, None]
            kernel, dilation, stride = ((1, *size) for size in sizes)
        else:
            kernel, dilation, stride = sizes
        windows = unfold(example[None], kernel, dilation=dilation, stride=stride)[0]  # (channels * kernel, L)
        if dimensions == 1 and _counted and _counted[-1].shape == (len(padded), windows.shape[1]):
            windows = windows[:, _counted[-1][index].to(windows.device)]
        yield "weight", windows.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)


@observes(nn.LSTM, nn.GRU, nn.RNN)
def _recurrent(
    layer: nn.LSTM | nn.GRU | nn.RNN, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> Iterator[Any]:
    """Inputs and previous outputs of each layer; those below the last are run again, for torch does not show them."""
    given = signature(layer.forward).bind(*args, **kwargs).arguments
    x, lengths = _time_first(layer, given["input"])  # (T, N, C)
    state = _batched(given.get("hx"))
    last, _ = _time_first(layer, output[0])
    inside = None if lengths is None else torch.arange(len(x), device=x.device)[:, None] < lengths
    directions = 2 if layer.bidirectional else 1
    for index in range(layer.num_layers):
        own = None if state is None else tuple(s[index * directions : (index + 1) * directions] for s in state)
        y = last if index + 1 == layer.num_layers else _run(layer, index, x, lengths, own)
        width = y.shape[-1] // directions
        for direction, suffix in zip(range(directions), ("", "_reverse"), strict=False):
            start = x.new_zeros(x.shape[1], width) if own is None else own[0][direction].to(y)
            h = y[..., direction * width : (direction + 1) * width]
            before = _previous(h, start, lengths, backwards=bool(direction))
            for name, values in (("ih", x), ("hh", before)):
                if inside is not None:
                    rows = values[inside]
                elif layer.batch_first:  # in the layer's own order, which sums of floats depend on
                    rows = _rows(values.transpose(0, 1), time_first=False)
                else:
                    rows = _rows(values, time_first=True)
                yield f"weight_{name}_l{index}{suffix}", rows
        x = y


def _time_first(layer: Any, x: Tensor | PackedSequence) -> tuple[Tensor, Tensor | None]:
    """Sequences as (T, N, C), and their lengths (N,) where they differ."""
    if isinstance(x, PackedSequence):
        padded, lengths = pad_packed_sequence(x)
        return padded, lengths.to(padded.device)
    if x.dim() == 2:
        return x[:, None], None
    return x.transpose(0, 1) if layer.batch_first else x, None


def _batched(state: Any) -> tuple[Tensor, ...] | None:
    """Hidden (and cell) state, each (layers * directions, N, H)."""
    if state is None:
        return None
    parts = (state,) if isinstance(state, Tensor) else tuple(state)
    return tuple(part[:, None] if part.dim() == 2 else part for part in parts)


def _run(layer: Any, index: int, x: Tensor, lengths: Tensor | None, state: tuple[Tensor, ...] | None) -> Tensor:
    """Outputs (T, N, H * directions) of one layer of a stack."""
    kind: Any = next(kind for kind in (nn.LSTM, nn.GRU, nn.RNN) if isinstance(layer, kind))
    options = {"bias": layer.bias, "bidirectional": layer.bidirectional, "device": "meta"}
    if kind is nn.LSTM:
        options["proj_size"] = layer.proj_size
    if kind is nn.RNN:
        options["nonlinearity"] = layer.nonlinearity
    single = kind(x.shape[-1], layer.hidden_size, **options).eval()
    for name, _ in list(single.named_parameters()):
        setattr(single, name, getattr(layer, name.replace("_l0", f"_l{index}")))
    sequence: Any = x
    if lengths is not None:
        sequence = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
    with torch.backends.cudnn.flags(enabled=False):  # it warns of weights that do not lie side by side
        y, _ = single(sequence, state if state is None or kind is nn.LSTM else state[0])
    return _time_first(single, y)[0]


def _previous(h: Tensor, start: Tensor, lengths: Tensor | None, backwards: bool) -> Tensor:
    """Output of the step before each step (T, N, H), that is `start` (N, H) before the first."""
    if not backwards:
        return torch.cat([start[None], h[:-1]])
    before = torch.cat([h[1:], start[None]])
    if lengths is not None:
        before[lengths - 1, torch.arange(len(start), device=h.device)] = start
    return before


@observes(nn.MultiheadAttention)
def _attention(
    layer: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
) -> Iterator[Any]:
    """Queries, keys, values, and the heads: the output of the layer with an identity for an output matrix."""
    given = signature(layer.forward).bind(*args, **kwargs).arguments
    for role in ("query", "key", "value"):
        x = given[role]
        name = "in_proj_weight" if layer._qkv_same_embed_dim else f"{role[0]}_proj_weight"
        yield name, _rows(x, not layer.batch_first)
    out = layer.out_proj.weight
    plain = {"out_proj.weight": torch.eye(len(out), dtype=out.dtype, device=out.device)}
    if layer.out_proj.bias is not None:
        plain["out_proj.bias"] = torch.zeros_like(layer.out_proj.bias)
    heads, _ = torch.func.functional_call(layer, plain, args, kwargs)
    yield "out_proj.weight", _rows(heads, not layer.batch_first)
