"""A packed recogniser: matrices without their zeros, all else as it was, and what recognition needs beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cspbench.runtime.packing import container
from cspbench.runtime.packing.container import PackedFileError
from cspbench.runtime.packing.header import MatrixHeader, PackedHeader, parse_header
from cspbench.runtime.packing.matrix import PackedMatrix
from cspbench.store import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

    from cspbench.asr.tokenizer import Tokenizer
    from cspbench.asr.trained import TrainedModel

Raw = bytes  # `PackedModel.bytes` is something else
SEPARATOR = "/"
"""Between the name of a matrix and that of its array; no parameter of a model has it in its name."""


@dataclass(frozen=True, eq=False)
class PackedModel:
    """A packed recogniser: made by `pack_model`, held by a packed file.

    Attributes:
        header: what is known about it; see `PackedHeader`.
        matrices: packed, by name: ``encoder.layers.0`` (4H, in + H), gates i f g o, ..., ``prediction.layers.0``,
            ``joint_encoder``, ``joint_prediction``, ``joint_output``.
        vectors: biases, embedding and statistics of the features, float32, by the LSTMTransducer's names.
    """

    header: PackedHeader
    matrices: Mapping[str, PackedMatrix]
    vectors: Mapping[str, np.ndarray]

    @property
    def bytes(self) -> int:
        """Bytes of all arrays, exactly; the file adds its header."""
        return sum(m.bytes for m in self.matrices.values()) + sum(v.nbytes for v in self.vectors.values())

    @property
    def file_bytes(self) -> int:
        """Size of the file that `save` writes, exactly."""
        return len(self.serialise())

    @property
    def sparsity(self) -> float:
        """Fraction of zeros among the weights of all matrices."""
        cells = sum(m.rows * m.columns for m in self.matrices.values())
        return 1 - sum(m.nonzeros for m in self.matrices.values()) / cells

    def save(self, path: Path | str) -> int:
        """Write the file, whole or not at all; return its size in bytes."""
        data = self.serialise()
        write_atomic(Path(path), data)
        return len(data)

    def serialise(self) -> Raw:
        """The file as bytes: equal for equal models."""
        arrays = {
            f"{name}{SEPARATOR}{key}": array for name, m in self.matrices.items() for key, array in m.arrays.items()
        }
        return container.serialise(self.header.model_dump(mode="json"), arrays | dict(self.vectors))

    @classmethod
    def load(cls, path: Path | str) -> PackedModel:
        """Open a packed file. Its arrays are read-only views of the mapped file; nothing in it is ever executed.

        Raises:
            PackedFileError: no packed file, another version, one that is cut off or changed, or one whose contents are
                not those of its header.
        """
        path = Path(path)
        value, arrays = container.read(path)
        try:
            header = parse_header(value)
            _check_tokenizer(header)
            return _from_arrays(header, arrays)
        except (ValueError, KeyError) as error:
            raise PackedFileError(f"{path} cannot be used: {error}") from error

    @property
    def tokenizer(self) -> Tokenizer:
        """Its units."""
        from cspbench.asr.tokenizer import load_tokenizer

        return load_tokenizer(self.header.tokenizer)

    def state(self) -> dict[str, Tensor]:
        """Dense fp32 tensors by the LSTMTransducer's names: for fp32 values bit for bit those that were packed."""
        import torch

        tensors = {name: torch.from_numpy(np.array(vector)) for name, vector in self.vectors.items()}
        for name, matrix in self.matrices.items():
            weight = torch.from_numpy(matrix.dense())
            if ".layers." in name:
                width = matrix.rows // 4
                tensors[f"{name}.weight_ih_l0"] = weight[:, :-width].contiguous()
                tensors[f"{name}.weight_hh_l0"] = weight[:, -width:].contiguous()
            else:
                tensors[f"{name}.weight"] = weight
        return tensors

    def trained(self) -> TrainedModel:
        """The recogniser in torch, dense and in evaluation mode; its auxiliary head, of training only, is zero."""
        from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer
        from cspbench.asr.trained import TrainedModel

        model = LSTMTransducer.from_config(self.header.model.model_dump())
        state = self.state()
        rest = {name: t.zero_() for name, t in model.state_dict().items() if name.startswith(LSTMTransducer.AUXILIARY)}
        model.load_state_dict(state | rest)
        header = self.header
        note = header.provenance | {"synthetic_speech": header.synthetic}
        return TrainedModel(model.eval(), self.tokenizer, header.features, header.sample_rate, note)


def _check_tokenizer(header: PackedHeader) -> None:
    from cspbench.asr.tokenizer import load_tokenizer

    try:
        size = load_tokenizer(header.tokenizer).size
    except (KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise ValueError(f"its tokenizer cannot be read: {error!r}") from error
    if size != header.model.shape.units:
        raise ValueError(f"its tokenizer has {size} units, and its model {header.model.shape.units}")


def _from_arrays(header: PackedHeader, arrays: dict[str, np.ndarray]) -> PackedModel:
    vectors = {name: _vector(name, arrays, shape) for name, shape in header.vectors.items()}
    matrices = {name: _matrix(name, own, arrays) for name, own in header.matrices.items()}
    if arrays:
        raise ValueError(f"array '{min(arrays)}' belongs to no matrix")
    return PackedModel(header, matrices, vectors)


def _vector(name: str, arrays: dict[str, np.ndarray], shape: list[int]) -> np.ndarray:
    vector = arrays.pop(name)
    if vector.dtype != np.float32 or vector.shape != tuple(shape):
        raise ValueError(f"'{name}' is {vector.dtype} {vector.shape}, not float32 {tuple(shape)}")
    if not np.isfinite(vector).all():
        raise ValueError(f"'{name}' is not finite")
    return vector


def _matrix(name: str, header: MatrixHeader, arrays: dict[str, np.ndarray]) -> PackedMatrix:
    prefix = name + SEPARATOR
    own = {key[len(prefix) :]: arrays.pop(key) for key in sorted(arrays) if key.startswith(prefix)}
    matrix = PackedMatrix(name, header.format, header.values, header.rows, header.columns, header.options, own)
    try:
        matrix.check()
    except ValueError as error:
        raise ValueError(f"matrix '{name}' ({header.format}, {header.values}): {error}") from error
    if matrix.nonzeros != header.nonzeros:
        raise ValueError(f"matrix '{name}' has {matrix.nonzeros} non-zeros; its header says {header.nonzeros}")
    return matrix


def matrix_header(matrix: PackedMatrix) -> MatrixHeader:
    """PackedHeader of a matrix."""
    return MatrixHeader(
        format=matrix.format,
        values=matrix.values,
        rows=matrix.rows,
        columns=matrix.columns,
        options=dict(matrix.options),
        nonzeros=matrix.nonzeros,
    )


def joined(state: Mapping[str, Any], name: str) -> Any:
    """The matrix of one name from an LSTMTransducer's state: a layer's input and recurrent matrix side by side."""
    if ".layers." in name:
        return np.concatenate([state[f"{name}.weight_ih_l0"], state[f"{name}.weight_hh_l0"]], axis=1)
    return state[f"{name}.weight"]
