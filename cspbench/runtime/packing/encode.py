"""Packing one matrix: by the native module in every format; in numpy, array for array the same, in the plain ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cspbench.errors import did_you_mean
from cspbench.runtime import extension
from cspbench.runtime.packing.matrix import FORMATS, PackedMatrix
from cspbench.runtime.packing.values import INT4_FORMAT, VALUE_TYPES, PackingError, check_range, clean, round_to

Options = dict[str, Any]


def parse_format(text: str) -> tuple[str, Options]:
    """``csr16``, ``block:4x4``, ``nm:2:4``, ``bitmap:4``, ``window:64`` or ``window:64x16``: a format, and its options.

    A window is so many columns wide and has 8 rows, or as many as the second number says. A bitmap stores single rows,
    or groups of four.

    Raises:
        PackingError: no such format, or an option it does not take.
    """
    name, _, detail = text.partition(":")
    if name not in FORMATS:
        raise PackingError(f"there is no format '{name}' ({', '.join(FORMATS)}){did_you_mean(name, FORMATS)}")
    if not detail:
        return name, {}
    takes = {"bitmap": (":", (1,)), "block": ("x", (2,)), "nm": (":", (2,)), "window": ("x", (1, 2))}
    separator, counts = takes.get(name, (":", ()))
    parts = detail.split(separator)
    if len(parts) not in counts or not all(n.isdigit() for n in parts):
        raise PackingError(f"'{text}' cannot be read: say e.g. block:4x4, nm:2:4, window:64, window:64x16, csr16")
    numbers = tuple(int(n) for n in parts)
    if name in ("bitmap", "window"):
        names = ("lanes",) if name == "bitmap" else ("window", "lanes")
        return name, dict(zip(names, numbers, strict=False))
    return name, {name: numbers}


def pack_matrix(weight: np.ndarray, format: str, values: str = "fp32", *, name: str = "the matrix") -> PackedMatrix:
    """Pack one matrix.

    Args:
        weight: (rows, columns), finite; read as float32.
        format: as `parse_format` takes it.
        values: fp32, fp16, bf16, int8, or int4, which is for the format window alone.
        name: for messages and for the model.

    Raises:
        PackingError: weights that are not finite or too large for `values`, or that do not fit the format; a format
            that needs the native module where that is absent.
    """
    chosen, options = parse_format(format)
    if values not in VALUE_TYPES:
        raise PackingError(
            f"there are no values '{values}' ({', '.join(VALUE_TYPES)}){did_you_mean(values, VALUE_TYPES)}"
        )
    if values == "int4" and chosen != INT4_FORMAT:
        raise PackingError(
            f"{name} cannot be packed as {chosen} with int4 values, which are for windows; take the format window, "
            "auto or smallest, or int8 values"
        )
    weight = clean(weight, name)
    if weight.ndim != 2 or not weight.size:
        raise PackingError(f"{name} has the shape {weight.shape}; a matrix has rows and columns")
    check_range(weight, values, name)
    if extension.available():
        return _pack_native(weight, chosen, values, options, name)
    if chosen not in IN_NUMPY:
        raise PackingError(
            f"the format {chosen} needs the native module of cspbench, which was not built here; install a C++17 "
            f"compiler and reinstall cspbench, or use one of the formats {', '.join(IN_NUMPY)}"
        )
    rounded = round_to(weight, values)
    arrays = IN_NUMPY[chosen](rounded.pop("values")) | rounded
    return PackedMatrix(name, chosen, values, len(weight), weight.shape[1], {}, arrays)


def _pack_native(weight: np.ndarray, format: str, values: str, options: Options, name: str) -> PackedMatrix:
    try:
        packed = extension.require(f"the format {format}").Matrix.pack(
            np.ascontiguousarray(weight), format, values, **options
        )
    except ValueError as error:
        raise PackingError(f"{name} cannot be packed as {format} with {values} values: {error}") from error
    return PackedMatrix(name, format, values, packed.rows, packed.columns, dict(packed.options), packed.arrays())


def _dense(values: np.ndarray) -> dict[str, np.ndarray]:
    return {"values": values}


def _starts(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype("<u4")


def _bitmap(values: np.ndarray) -> dict[str, np.ndarray]:
    there = values != 0
    words = -(-values.shape[1] // 64)
    bits = np.zeros((len(values), words * 8), np.uint8)
    packed = np.packbits(there, axis=1, bitorder="little")
    bits[:, : packed.shape[1]] = packed
    return {"values": values[there], "bits": bits.view("<u8"), "starts": _starts(there.sum(axis=1))}


def _csr16(values: np.ndarray) -> dict[str, np.ndarray]:
    if values.shape[1] > 2**16:
        raise PackingError(f"csr16 has 16 bits for a column, and there are {values.shape[1]}; use dense")
    there = values != 0
    return {
        "values": values[there],
        "columns": np.nonzero(there)[1].astype("<u2"),
        "starts": _starts(there.sum(axis=1)),
    }


def _csr8(values: np.ndarray) -> dict[str, np.ndarray]:
    row, column = np.nonzero(values)
    counts = np.bincount(row, minlength=len(values))
    before = np.concatenate([[0], column[:-1] + 1]) if len(row) else column
    before[(np.cumsum(counts) - counts)[counts > 0]] = 0  # the first of a row counts from its beginning
    bridges, gap = np.divmod(column - before, 256)
    place = np.cumsum(bridges + 1) - 1  # where each non-zero goes; the entries that lead to it stand before it
    gaps, stored = np.full(bridges.sum() + len(row), 255, np.uint8), np.zeros(bridges.sum() + len(row), values.dtype)
    gaps[place], stored[place] = gap, values[row, column]
    lengths = np.bincount(row, weights=bridges + 1, minlength=len(values)).astype(np.int64)
    return {"values": stored, "gaps": gaps, "starts": _starts(lengths)}


IN_NUMPY: dict[str, Callable[[np.ndarray], dict[str, np.ndarray]]] = {
    "dense": _dense,
    "bitmap": _bitmap,
    "csr16": _csr16,
    "csr8": _csr8,
}
