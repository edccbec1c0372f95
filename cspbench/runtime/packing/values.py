"""Value types: how a weight is rounded for storage, and what it is worth when it is read back.

Zeros of either sign are one zero. Pruning by multiplication with a mask makes a -0.0 of every negative weight it
removes; to keep these would be to keep the pruned weights. So -0.0 is stored as 0.0 in every format, the one exception
to "bit for bit". A product can tell the two apart by the sign of a result that is zero, and by nothing else.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from cspbench.errors import CspbenchError

ValueType = Literal["fp32", "fp16", "bf16", "int8", "int4"]
VALUE_TYPES: tuple[ValueType, ...] = get_args(ValueType)
DTYPES: dict[str, np.dtype] = {
    "fp32": np.dtype("<f4"),
    "fp16": np.dtype("<f2"),
    "bf16": np.dtype("<u2"),
    "int8": np.dtype("i1"),
    "int4": np.dtype("u1"),
}
"""Types of the arrays. numpy has no bfloat16: its bits lie in 16-bit integers. int4 are stored two a byte."""
SCALES = "scales"
SCALED = {"int8": 127, "int4": 7}
"""Types with a scale for each row, and the largest magnitude that they store."""
INT4_FORMAT = "window"
"""The one format with int4 values."""
TOO_LARGE = {"fp16": 65520.0, "bf16": (2 - 2**-8) * 2.0**127}
"""Magnitudes from which on rounding to nearest gives infinity."""


class PackingError(CspbenchError):
    """A model or matrix that cannot be packed as asked."""


def clean(weight: np.ndarray, name: str = "the matrix") -> np.ndarray:
    """A copy as float32 without -0.0; PackingError if something in it is not finite."""
    result = np.asarray(weight, np.float32) + np.float32(0)
    if not np.isfinite(result).all():
        row, column = np.argwhere(~np.isfinite(np.atleast_2d(result)))[0]
        raise PackingError(
            f"{name} holds {np.atleast_2d(result)[row, column]} in row {row}, column {column}; train again"
        )
    return result


def check_range(weight: np.ndarray, values: str, name: str = "the matrix") -> None:
    """Refuse (PackingError) a weight that would round to infinity."""
    largest = float(np.abs(weight).max(initial=0))
    if largest >= TOO_LARGE.get(values, np.inf):
        raise PackingError(f"{name} holds {largest:g}, too much for {values}; use fp32 or int8")


def round_to(weight: np.ndarray, values: str) -> dict[str, np.ndarray]:
    """Round a clean matrix (rows, columns) in range: ``values`` of the same shape and, if `SCALED`, ``scales`` (rows,).

    All rounding is to nearest, ties to even. The largest of a row becomes 127 in int8, so that -128 never occurs, and 7
    in int4, of which each has a byte here.
    """
    if values == "fp32":
        return {"values": weight}
    if values == "fp16":
        return {"values": weight.astype(np.float16) + np.float16(0)}  # a tiny negative weight becomes zero
    return {"values": _bf16(weight)} if values == "bf16" else _scaled(weight, SCALED[values])


def _bf16(weight: np.ndarray) -> np.ndarray:
    bits = weight.view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(rounded == 0x8000, 0, rounded).astype(np.uint16)  # likewise


def _scaled(weight: np.ndarray, most: int) -> dict[str, np.ndarray]:
    largest = np.abs(weight).max(axis=1, initial=0)
    scales = (largest / np.float32(most)).astype(np.float32)
    divisor = np.where(scales > 0, scales, np.float32(1))
    return {"values": np.clip(np.rint(weight / divisor[:, None]), -most, most).astype(np.int8), SCALES: scales}


def numbers(stored: np.ndarray, values: str) -> np.ndarray:
    """Stored values one by one: int4, two a byte along the last axis, as int8 (the lower half is first)."""
    if values != "int4":
        return stored
    halves = np.repeat(stored, 2, axis=-1)
    halves[..., 1::2] >>= 4
    return ((halves & 15) ^ 8).astype(np.int8) - np.int8(8)


def restore(stored: np.ndarray, values: str) -> np.ndarray:
    """Numbers as float32, without the scales of int8 and int4."""
    if values == "bf16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)
