"""Export of transducers with an LSTM encoder as one ExecuTorch program, for devices that run those.

A program has a method for each network, for one stream and one step, and its kernels are XNNPACK's where that has them:

- ``encode``: stacked log-mel features (1, 1, C), not normalised, and the state -> (1, 1, J) and the next state.
- ``predict``: a label (1, 1) int64 and the state -> (1, 1, J) and the next state. First comes the blank, 0.
- ``joint``: an output of each, (1, 1, J) -> logits (1, 1, V).
- ``facts``: front end, units and origin as JSON.

A state is the tensors of each layer in turn, and zeros before the first step.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer
from cspbench.asr.recognisers.stateless import StatelessTransducer
from cspbench.asr.tokenizer import BLANK
from cspbench.asr.trained import TrainedModel
from cspbench.asr.transducer import State, TransducerBase
from cspbench.runtime.export.files import ExportError, compare, facts_json
from cspbench.store import write_atomic

CHECKED_STEPS = 20
"""Steps of noise on which an export is checked."""

DTYPES = {4: torch.int64, 6: torch.float32}
"""Types of tensors by the numbers that ExecuTorch has for them."""

Network = Callable[[TransducerBase, Tensor, State | None], tuple[Tensor, State]]


def export_executorch(trained: TrainedModel, path: Path) -> None:
    """Write a recogniser as an ExecuTorch program.

    Args:
        trained: an ``lstm_transducer`` or ``stateless_transducer``.
        path: by custom ``name.pte``.

    Raises:
        ExportError: another recogniser, or executorch is not installed.
    """
    modules = _modules(trained)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and ExecuTorch, about each other
        try:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
        except ImportError as error:
            raise ExportError(f"this export needs executorch ({error}); pip install 'cspbench[executorch]'") from error
        programs = {name: torch.export.export(module, inputs) for name, (module, inputs) in modules.items()}
        lowered = to_edge_transform_and_lower(
            programs, partitioner=[XnnpackPartitioner()], constant_methods={"facts": facts_json(trained)}
        )
        program = lowered.to_executorch()
    write_atomic(path, program.buffer)


def check_executorch(trained: TrainedModel, path: Path) -> dict[str, float]:
    """Largest difference between ExecuTorch and torch for each network, relative to the largest output.

    Both get the same noise, step by step.

    Raises:
        ExportError: a difference beyond `cspbench.runtime.export.files.TOLERANCE`.
    """
    model, program = _exportable(trained), ExecuTorchTransducer(path)
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.standard_normal((1, CHECKED_STEPS, trained.features.stack, model.mels))).float()
    features = (noise / model.feature_scale.clamp(min=1e-6) + model.feature_mean).flatten(2)
    labels = torch.from_numpy(rng.integers(1, trained.tokenizer.size, (1, CHECKED_STEPS)))
    with torch.no_grad():
        theirs = model.joint_encoder(model.forward_encoder(model.normalise(features))[0])
        spoken = model.joint_prediction(model.forward_prediction(labels)[0])
        logits = model.forward_joint(theirs, spoken)
    encoded = torch.cat([program.run("encode", step) for step in features.split(1, dim=1)], dim=1)
    predicted = torch.cat([program.run("predict", label) for label in labels.split(1, dim=1)], dim=1)
    pairs = zip(encoded.split(1, dim=1), predicted.split(1, dim=1), strict=True)
    joined = torch.cat([program.joint(*pair) for pair in pairs], dim=1)
    found = {"encode": (encoded, theirs), "predict": (predicted, spoken), "joint": (joined, logits)}
    arrays = {name: (ours.numpy(), other.numpy()) for name, (ours, other) in found.items()}
    return compare(arrays, runtime="ExecuTorch")


class ExecuTorchTransducer:
    """An exported recogniser on ExecuTorch: its networks, and their states for one stream.

    Args:
        path: the program.
    """

    def __init__(self, path: Path) -> None:
        from executorch.runtime import Runtime

        self._program = Runtime.get().load_program(path)
        self._states = {name: self._zeros(name) for name in ("encode", "predict")}

    def run(self, name: str, x: Tensor) -> Tensor:
        """Run ``encode`` or ``predict`` on one step, and keep the state after it."""
        result, *self._states[name] = self._execute(name, [x, *self._states[name]])
        return result

    def joint(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Logits (1, 1, V) of the next label for an output of each network, (1, 1, J)."""
        return self._execute("joint", [encoded, predicted])[0]

    def facts(self) -> dict[str, Any]:
        """What is known about the recogniser: front end, units, origin."""
        return json.loads(self._execute("facts", [])[0])

    def _execute(self, name: str, inputs: list[Tensor]) -> list[Any]:
        return self._program.load_method(name).execute([x.contiguous() for x in inputs])

    def _zeros(self, name: str) -> list[Tensor]:
        about = self._program.metadata(name)
        infos = [about.input_tensor_meta(i) for i in range(1, about.num_inputs())]
        return [torch.zeros(info.sizes(), dtype=DTYPES[info.dtype()]) for info in infos]


class _Step(nn.Module):
    """A network from one input and the tensors of its state to its output and the tensors of the next state."""

    def __init__(self, model: TransducerBase, network: Network, example: Tensor) -> None:
        super().__init__()
        self.model, self._network = model, network
        self._layers = network(model, example, None)[1]

    def example_state(self) -> tuple[Tensor, ...]:
        """Return the tensors of a state."""
        return tuple(part for layer in self._layers for part in layer)

    def forward(self, x: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        parts = iter(state)
        result, after = self._network(self.model, x, [tuple(next(parts) for _ in layer) for layer in self._layers])
        return result, *(part for layer in after for part in layer)


def _encode(model: TransducerBase, features: Tensor, state: State | None) -> tuple[Tensor, State]:
    encoded, after = model.forward_encoder(model.normalise(features), state)
    return model.joint_encoder(encoded), after


def _predict(model: TransducerBase, labels: Tensor, state: State | None) -> tuple[Tensor, State]:
    predicted, after = model.forward_prediction(labels, state)
    return model.joint_prediction(predicted), after


class _Joint(nn.Module):
    """Logits from outputs of encoder and prediction network."""

    def __init__(self, model: TransducerBase) -> None:
        super().__init__()
        self.model = model

    def forward(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        return self.model.forward_joint(encoded, predicted)


def _modules(trained: TrainedModel) -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    """The networks by the name of their method, and inputs of the right shapes."""
    model = copy.deepcopy(_exportable(trained))  # torch.export assigns to the weights of an LSTM
    features, label = torch.zeros(1, 1, trained.features.mels * trained.features.stack), torch.full((1, 1), BLANK)
    with torch.no_grad():
        encode, predict = _Step(model, _encode, features), _Step(model, _predict, label)
    joined = torch.zeros(1, 1, model.joint_encoder.out_features)
    return {
        "encode": (encode, (features, *encode.example_state())),
        "predict": (predict, (label, *predict.example_state())),
        "joint": (_Joint(model), (joined, joined.clone())),
    }


def _exportable(trained: TrainedModel) -> TransducerBase:
    if not isinstance(trained.model, LSTMTransducer | StatelessTransducer):
        name = trained.model.spec.name if trained.model.spec else type(trained.model).__name__
        raise ExportError(f"export to ExecuTorch takes 'lstm_transducer' and 'stateless_transducer', not '{name}'")
    return trained.model
