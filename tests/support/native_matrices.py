"""Weights and inputs for tests of the native kernels, and a way through all instruction sets."""

from __future__ import annotations

import numpy as np
import pytest

native = pytest.importorskip("cspbench.runtime._native", reason="NATIVE MODULE ABSENT: no compiler when installing")

FORMATS = {
    "dense": {},
    "bitmap": {},
    "csr16": {},
    "csr8": {},
    "window": {},
    "block": {"block": (3, 5)},
    "nm": {"nm": (16, 16)},  # holds any matrix
}
# What kernels have their own loops for, beside the odd ones above.
BLOCKS = [(1, 4), (1, 8), (4, 4), (8, 1), (16, 16), (4, 64)]
GROUPS = [(2, 4), (1, 4), (4, 8), (2, 8), (3, 11), (4, 16)]
VALUES = ["fp32", "fp16", "bf16", "int8"]
SCALED = {"int8": 127, "int4": 7}  # largest magnitudes
KINDS = [*((form, values) for form in FORMATS for values in VALUES), ("window", "int4")]


def every_instruction_set():
    """Use each in turn; the one that was in use again in the end."""
    before = native.current()
    try:
        for name in native.instruction_sets():
            native.use(name)
            yield name
    finally:
        native.use(before)


def sparse(rows, columns, density, seed):
    """Weights with an empty row and a full one, of very different magnitudes."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((rows, columns)) * 10.0 ** rng.integers(-3, 3, (rows, 1))
    weights[rng.random((rows, columns)) >= density] = 0
    if rows > 3:
        weights[rng.integers(rows)] = 0
        weights[rng.integers(rows)] = rng.standard_normal(columns)
    return weights.astype(np.float32)


def nm_sparse(rows, columns, n, m, seed):
    """Weights of which no group of m columns has more than n."""
    rng = np.random.default_rng(seed)
    groups = -(-columns // m)
    kept = rng.random((rows, groups, m)).argsort(-1) < rng.integers(0, n + 1, (rows, groups, 1))
    return (kept * rng.standard_normal(kept.shape)).reshape(rows, -1)[:, :columns].astype(np.float32)


def scaled_product(matrix, x):
    """The product of int8 and int4 by its definition: exact integer sums, then two roundings."""
    scales = matrix.arrays()["scales"]
    q = np.rint(matrix.dense() / np.where(scales > 0, scales, 1)[:, None])
    largest = np.abs(x).max(-1, keepdims=True)
    x_q = np.rint(x * (np.float32(127) / np.where(largest > 0, largest, 1)))
    sums = (x_q.astype(np.int64) @ q.astype(np.int64).T).astype(np.float32)
    return (scales * (largest / np.float32(127))) * sums


def inputs(batch, columns, seed):
    return np.random.default_rng([seed, 1]).standard_normal((batch, columns)).astype(np.float32)
