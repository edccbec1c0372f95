"""Layers of torch on packed weights: linear, pointwise convolution, LSTM and GRU, for inference on the CPU.

Each takes what the layer of torch takes and returns what that returns, to the rounding of sums (fp32) or of weights and
inputs to 8 bits (int8). Products skip the zeros; all else is plain torch. A layer's packed weights, but no dense ones,
are in its ``state_dict`` under ``packed.<name>.``: one ``format`` entry (JSON as bytes) and the arrays of the format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from cspbench.errors import CspbenchError
from cspbench.runtime.packing import PackedMatrix

FORMAT = "format"
"""Key of a packed weight's JSON header in a state dict, beside its arrays."""


class PackedLayerError(CspbenchError):
    """A packed layer that is given something it cannot take; the message says what it takes."""


def plain(x: Tensor) -> np.ndarray:
    """Contiguous array of a tensor that native code reads.

    Raises:
        PackedLayerError: a tensor of another type or device than float32 on the CPU, or one that asks for gradients.
    """
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise PackedLayerError(f"packed layers take float32 on the CPU, not {x.dtype} on {x.device}")
    if x.requires_grad:
        if torch.is_grad_enabled():
            raise PackedLayerError("packed layers are for inference: call them under torch.inference_mode()")
        x = x.detach()
    return x.contiguous().numpy()


class PackedWeight(nn.Module):
    """A packed matrix (R, C) as a module, so that it is part of a model's state. Moves and casts leave it as it is.

    Args:
        matrix: the packed matrix.
        threads: of a product.
    """

    def __init__(self, matrix: PackedMatrix, threads: int = 1) -> None:
        super().__init__()
        self.threads = threads
        self.matrix = matrix
        self._native = matrix.native()

    def multiply(self, x: Tensor) -> Tensor:
        """``x W^T``: (N, C) -> (N, R), float32 on the CPU.

        Raises:
            PackedLayerError: an input of another type or device, or one that asks for gradients.
        """
        array = plain(x)
        if not len(array):
            return x.new_zeros(0, self.matrix.rows)
        return torch.from_numpy(self._native.multiply(array, self.threads))

    @property
    def native(self) -> Any:
        """The matrix of the native module."""
        return self._native

    def extra_repr(self) -> str:
        m = self.matrix
        return f"{m.rows} x {m.columns}, {m.label} {m.values}, {m.sparsity:.0%} zeros, {m.bytes} bytes"

    def __deepcopy__(self, memo: Any) -> PackedWeight:
        return PackedWeight(self.matrix, self.threads)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_native"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._native = self.matrix.native()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        m = self.matrix
        header = {"format": m.format, "values": m.values, "rows": m.rows, "columns": m.columns}
        text = json.dumps(header | {"options": dict(m.options)}, sort_keys=True)
        destination[prefix + FORMAT] = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        for name, array in m.arrays.items():
            # numpy has two types of 64 bits, and torch knows one of them.
            destination[prefix + name] = torch.from_numpy(np.array(array).view(np.dtype(array.dtype.str)))

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *rest: Any) -> None:
        *_, missing, _unexpected, errors = rest
        if prefix + FORMAT not in state_dict:
            missing.append(prefix + FORMAT)
            return
        try:
            self.matrix = matrix_of(state_dict, prefix, (self.matrix.rows, self.matrix.columns))
            self._native = self.matrix.native()
        except ValueError as error:
            errors.append(str(error))


def matrix_of(state: Mapping[str, Tensor], prefix: str, shape: tuple[int, ...]) -> PackedMatrix:
    """Read the packed matrix that a state dict holds under a prefix, every array checked.

    Raises:
        ValueError: it is damaged, or of another shape.
    """
    try:
        header = json.loads(state[prefix + FORMAT].numpy().tobytes())
        keys = [key for key in state if key.startswith(prefix) and key != prefix + FORMAT]
        arrays = {key[len(prefix) :]: state[key].numpy() for key in keys}
        matrix = PackedMatrix(prefix[:-1], **header, arrays=arrays)
        matrix.check()
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{prefix[:-1]} cannot be read: {error}") from error
    if (matrix.rows, matrix.columns) != shape:
        raise ValueError(f"{prefix[:-1]} is {(matrix.rows, matrix.columns)} in the state and {shape} in the model")
    return matrix


class PackedLayer(nn.Module):
    """A layer on packed weights; `packed` holds them by the names that the layer of torch has for its matrices."""

    _products: dict[str, PackedWeight]

    def __init__(self, layer: nn.Module, matrices: Mapping[str, PackedMatrix], threads: int = 1) -> None:
        super().__init__()
        self.packed = nn.ModuleDict({name: PackedWeight(matrix, threads) for name, matrix in matrices.items()})
        # The same modules once more, as plain attributes: looking up a module of a module takes microseconds.
        object.__setattr__(self, "_products", dict(self.packed.items()))
        for name, parameter in layer.named_parameters(recurse=False):
            if name not in matrices:
                self.register_buffer(name, parameter.detach().clone())
        self.train(layer.training)

    def weights(self) -> dict[str, PackedWeight]:
        """Its packed weights by name."""
        return self._products


class PackedLinear(PackedLayer):
    """`nn.Linear`: (..., C) -> (..., R)."""

    bias: Tensor | None

    def __init__(self, layer: nn.Linear, matrices: Mapping[str, PackedMatrix], threads: int = 1) -> None:
        super().__init__(layer, matrices, threads)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        if layer.bias is None:
            self.bias = None

    @property
    def weight(self) -> Tensor:
        """The weights, dense, for code that looks at them; made anew at each call."""
        return torch.from_numpy(self._products["weight"].matrix.dense())

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x W^T + b``."""
        y = self._products["weight"].multiply(x if x.dim() == 2 else x.reshape(-1, self.in_features))
        if (bias := self.bias) is not None:
            y += bias
        return y if x.dim() == 2 else y.view(*x.shape[:-1], self.out_features)


class PackedPointwise(PackedLayer):
    """`nn.Conv1d` or `nn.Conv2d` with a kernel of one: ([N,] C, ...) -> ([N,] R, ...)."""

    bias: Tensor | None

    def __init__(self, layer: nn.Conv1d | nn.Conv2d, matrices: Mapping[str, PackedMatrix], threads: int = 1) -> None:
        super().__init__(layer, matrices, threads)
        self.channels, self.dimensions = layer.in_channels, len(layer.kernel_size)
        if layer.bias is None:
            self.bias = None

    def forward(self, x: Tensor) -> Tensor:
        """Multiply the channels of every position."""
        channel = x.dim() - self.dimensions - 1
        moved = x.movedim(channel, -1)
        y = self._products["weight"].multiply(moved.reshape(-1, self.channels))
        if (bias := self.bias) is not None:
            y += bias
        return y.view(*moved.shape[:-1], y.shape[-1]).movedim(-1, channel)


class PackedRecurrent(PackedLayer):
    """`nn.LSTM` and `nn.GRU`, any number of layers, one or both directions, without projections.

    The inputs of all steps are multiplied at once, the state step by step. There is no dropout: it is for inference.
    """

    gates: int

    def __init__(self, layer: nn.LSTM | nn.GRU, matrices: Mapping[str, PackedMatrix], threads: int = 1) -> None:
        super().__init__(layer, matrices, threads)
        self.input_size, self.hidden_size, self.num_layers = layer.input_size, layer.hidden_size, layer.num_layers
        self.batch_first, self.bidirectional = layer.batch_first, layer.bidirectional

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return outputs and last state; shapes and order as in torch: (T, N, C), (N, T, C) or (T, C).

        Raises:
            PackedLayerError: a `PackedSequence`.
        """
        if isinstance(x, PackedSequence):
            raise PackedLayerError("a packed recurrent layer takes tensors, not PackedSequence: run utterances apart")
        alone = x.dim() == 2
        if alone:
            x = x[:, None]
        elif self.batch_first:
            x = x.transpose(0, 1)
        before = self._states(x, state, alone)
        after: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(2 if self.bidirectional else 1):
                name = f"l{layer}{'_reverse' if direction else ''}"
                y, last = self._run(name, x.flip(0) if direction else x, before[len(after)])
                outputs.append(y.flip(0) if direction else y)
                after.append(last)
            x = torch.cat(outputs, dim=-1) if self.bidirectional else outputs[0]
        y = x[:, 0] if alone else x.transpose(0, 1) if self.batch_first else x
        return y, self._joined(after, alone)

    def _run(self, name: str, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One layer in one direction: (T, N, C) -> (T, N, H), and its state after the last step."""
        own = self.weights()
        inputs = own[f"weight_ih_{name}"].multiply(x.reshape(-1, x.shape[-1])).view(*x.shape[:2], -1)
        recurrent = own[f"weight_hh_{name}"]
        bias = getattr(self, f"bias_hh_{name}", None)
        if bias is not None:
            inputs += getattr(self, f"bias_ih_{name}")
        outputs = []
        for step in inputs:
            product = recurrent.multiply(state[0])
            state = self._step(step, product if bias is None else product + bias, state)
            outputs.append(state[0])
        return torch.stack(outputs) if outputs else x.new_zeros(0, x.shape[1], self.hidden_size), state

    def _step(self, x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """State (each (N, H)) after a step, from the products of inputs and of hidden state, (N, gates * H) each."""
        raise NotImplementedError

    def _states(self, x: Tensor, state: Any, alone: bool) -> list[tuple[Tensor, ...]]:
        """The state of each layer and direction before the first step; zeros if none is given."""
        raise NotImplementedError

    def _joined(self, states: list[tuple[Tensor, ...]], alone: bool) -> Any:
        """The states of all layers and directions as torch returns them."""
        raise NotImplementedError

    def _zeros(self, x: Tensor) -> Tensor:
        return x.new_zeros(self.num_layers * (2 if self.bidirectional else 1), x.shape[1], self.hidden_size)


class PackedLSTM(PackedRecurrent):
    """`nn.LSTM`; gates i f g o."""

    def _step(self, x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        i, f, g, o = (x + h).chunk(4, dim=-1)
        cell = torch.addcmul(torch.sigmoid(f) * state[1], torch.sigmoid(i), torch.tanh(g))
        return torch.sigmoid(o) * torch.tanh(cell), cell

    def _states(self, x: Tensor, state: Any, alone: bool) -> list[tuple[Tensor, ...]]:
        hidden, cell = (self._zeros(x), self._zeros(x)) if state is None else state
        if alone and state is not None:
            hidden, cell = hidden[:, None], cell[:, None]
        return list(zip(hidden, cell, strict=True))

    def _joined(self, states: list[tuple[Tensor, ...]], alone: bool) -> tuple[Tensor, Tensor]:
        hidden, cell = (torch.stack(part) for part in zip(*states, strict=True))
        return (hidden[:, 0], cell[:, 0]) if alone else (hidden, cell)


class PackedGRU(PackedRecurrent):
    """`nn.GRU`; gates r z n."""

    def _step(self, x: Tensor, h: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (xr, xz, xn), (hr, hz, hn) = x.chunk(3, dim=-1), h.chunk(3, dim=-1)
        new = torch.tanh(torch.addcmul(xn, torch.sigmoid(xr + hr), hn))
        return (torch.lerp(new, state[0], torch.sigmoid(xz + hz)),)

    def _states(self, x: Tensor, state: Any, alone: bool) -> list[tuple[Tensor, ...]]:
        hidden = self._zeros(x) if state is None else state[:, None] if alone else state
        return [(h,) for h in hidden]

    def _joined(self, states: list[tuple[Tensor, ...]], alone: bool) -> Tensor:
        hidden = torch.stack([h for (h,) in states])
        return hidden[:, 0] if alone else hidden
