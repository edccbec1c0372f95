"""Sizes of a packed model, beside those of other forms of the same weights."""

from __future__ import annotations

import zlib
from typing import Any

from safetensors.numpy import save

from cspbench.runtime.packing.encode import pack_matrix
from cspbench.runtime.packing.matrix import PackedMatrix
from cspbench.runtime.packing.model import PackedModel

GZIP_LEVEL = 9


def matrix_rows(model: PackedModel) -> list[dict[str, Any]]:
    """One row for each matrix: format, non-zeros, bytes, and the excess of the bytes over the bound."""
    return [_row(name, matrix) for name, matrix in model.matrices.items()]


def _row(name: str, matrix: PackedMatrix) -> dict[str, Any]:
    cells = matrix.rows * matrix.columns
    return {
        "matrix": name,
        "shape": [matrix.rows, matrix.columns],
        "format": matrix.label,
        "values": matrix.values,
        "zeros": matrix.sparsity,
        "nonzeros": matrix.nonzeros,
        "padding": matrix.padding,
        "bytes": matrix.bytes,
        "bytes_per_weight": matrix.bytes / cells,
        "bytes_per_nonzero": matrix.bytes / matrix.nonzeros if matrix.nonzeros else None,
        "bound": matrix.bound_bytes,
        "over_bound": matrix.bytes / matrix.bound_bytes - 1 if matrix.bound_bytes else None,
    }


def size_rows(model: PackedModel, before: PackedModel | None = None) -> list[dict[str, Any]]:
    """Bytes of the whole recogniser in several forms, and the compression of each relative to dense fp32.

    "dense fp32" is the safetensors file with every weight, gzip that file by zlib at its highest level. Files are
    counted with their headers; the other forms are the arrays of all matrices and what no form packs (biases,
    embedding, statistics). gzip may go below the bound: it also finds what values and places have in common.

    Args:
        model: what was packed.
        before: the same recogniser in fp32, where `model` has rounded values: the others start from unrounded weights.
    """
    before = before or model
    dense = {name: tensor.numpy() for name, tensor in before.state().items()}
    file, packed_file = save(dense), model.serialise()
    rest = sum(v.nbytes for v in model.vectors.values())
    weights = {name: matrix.dense() for name, matrix in before.matrices.items()}

    def packed(format: str, values: str) -> int:
        return rest + sum(pack_matrix(w, format, values, name=n).bytes for n, w in weights.items())

    sizes = {
        "dense fp32": len(file),
        "dense int8": packed("dense", "int8"),
        "gzip of dense fp32": len(zlib.compress(file, GZIP_LEVEL)),
        "csr16 fp32": packed("csr16", "fp32"),
        "packed": model.bytes,
        "packed file": len(packed_file),
        "gzip of packed file": len(zlib.compress(packed_file, GZIP_LEVEL)),
        "bound": rest + sum(m.bound_bytes for m in model.matrices.values()),
    }
    return [{"form": form, "bytes": size, "compression": len(file) / size} for form, size in sizes.items()]
