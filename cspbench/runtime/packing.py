"""Packed models: zeros are not stored.

A matrix is stored as CSR (values, 16-bit columns where they fit, row pointers) if that is smaller than dense, and as
dense otherwise; vectors and the embedding stay dense. The byte count of a model is that of its serialised form.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import Tensor

from cspbench.asr.model import Transducer, prunable_weights

ROWS, COLUMNS, VALUES = ".csr_rows", ".csr_columns", ".csr_values"


def to_csr(weight: Tensor) -> dict[str, Tensor]:
    """CSR arrays of a matrix (out, in): fp32 values (nnz,), columns (nnz,) int16 or int32, row pointers (out + 1,)."""
    csr = weight.detach().cpu().to_sparse_csr()
    column_type = torch.int16 if weight.shape[1] <= torch.iinfo(torch.int16).max else torch.int32
    return {
        ROWS: csr.crow_indices().to(torch.int32),
        COLUMNS: csr.col_indices().to(column_type),
        VALUES: csr.values(),
    }


def from_csr(arrays: Mapping[str, Tensor], columns: int) -> Tensor:
    """Dense matrix (out, in) of CSR arrays; the inverse of `to_csr`, bit for bit."""
    rows = arrays[ROWS]
    csr = torch.sparse_csr_tensor(
        rows, arrays[COLUMNS].to(torch.int32), arrays[VALUES], size=(len(rows) - 1, columns), check_invariants=True
    )
    return csr.to_dense()


def pack(model: Transducer) -> dict[str, Tensor]:
    """Tensors of the packed recogniser: ``name`` where dense is smaller, ``name.csr_*`` where CSR is."""
    matrices = prunable_weights(model)
    packed: dict[str, Tensor] = {}
    for name, tensor in model.recogniser_state().items():
        dense = tensor.detach().cpu().contiguous()
        arrays = to_csr(dense) if name in matrices else {}
        if arrays and sum(a.nbytes for a in arrays.values()) < dense.nbytes:
            packed |= {name + key: array.contiguous() for key, array in arrays.items()}
        else:
            packed[name] = dense
    return packed


def unpack(packed: Mapping[str, Tensor], model: Transducer) -> None:
    """Load packed tensors into a model of the same shape; its auxiliary head keeps what it has."""
    state = dict(model.state_dict())
    for name, tensor in state.items():
        if name in packed:
            state[name] = packed[name]
        elif name + ROWS in packed:
            arrays = {key: packed[name + key] for key in (ROWS, COLUMNS, VALUES)}
            state[name] = from_csr(arrays, tensor.shape[1])
    model.load_state_dict(state)


def packed_bytes(model: Transducer) -> int:
    """Size of the serialised packed recogniser in bytes."""
    return len(save(pack(model)))


def dense_bytes(model: Transducer) -> int:
    """Size of the same recogniser, serialised with every weight, in bytes."""
    return len(save({k: v.detach().cpu().contiguous() for k, v in model.recogniser_state().items()}))
