"""One packed matrix: its arrays, their bytes, and the fewest bytes that could hold it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cspbench.runtime import extension
from cspbench.runtime.packing.layouts import EXTRA_ARRAYS, LANES, LARGEST, LAYOUTS, OPTIONS, Places
from cspbench.runtime.packing.values import (
    DTYPES,
    INT4_FORMAT,
    SCALED,
    SCALES,
    VALUE_TYPES,
    PackingError,
    numbers,
    restore,
)

if TYPE_CHECKING:
    from cspbench.runtime import _native

FORMATS = tuple(LAYOUTS)


@dataclass(frozen=True, eq=False)
class PackedMatrix:
    """A matrix (rows, columns) in one format with one type of values.

    Attributes:
        name: of the matrix in its model.
        format: one of `FORMATS`.
        values: one of `VALUE_TYPES`.
        rows: outputs.
        columns: inputs.
        options: parameters of the format by name, e.g. ``{"block_rows": 4, "block_columns": 4}``.
        arrays: ``values``, for int8 and int4 ``scales`` (rows,), and what the format needs; see `layouts`.
    """

    name: str
    format: str
    values: str
    rows: int
    columns: int
    options: Mapping[str, int] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The format as `parse_format` reads it, with its parameters: ``block:4x4``, ``nm:2:4``, ``window:64x16``."""
        if self.format == "bitmap" and "lanes" in self.options:
            return f"bitmap:{self.options['lanes']}"
        if self.format == "block":
            return f"block:{self.options.get('block_rows')}x{self.options.get('block_columns')}"
        if self.format == "window" and "window" in self.options:  # files of older versions do not tell
            lanes = self.options.get("lanes", LANES[0])
            return f"window:{self.options['window']}" + (f"x{lanes}" if lanes != LANES[0] else "")
        return f"nm:{self.options.get('n')}:{self.options.get('m')}" if self.format == "nm" else self.format

    @property
    def bytes(self) -> int:
        """Bytes of all arrays, exactly."""
        return sum(array.nbytes for array in self.arrays.values())

    @property
    def stored(self) -> int:
        """Values stored, padding included."""
        return self._numbers.size

    @cached_property
    def nonzeros(self) -> int:
        """Values stored that are not zero. Rounding to fewer bits may have made zeros of weights that were none."""
        stored = self._numbers
        return int(np.count_nonzero(stored & 0x7FFF if self.values == "bf16" else stored))

    @cached_property
    def _numbers(self) -> np.ndarray:
        return numbers(self.arrays["values"], self.values)

    @property
    def padding(self) -> float | None:
        """Values stored for each that is not zero: 1 in formats that store no zeros. None without non-zeros."""
        return self.stored / self.nonzeros if self.nonzeros else None

    @property
    def sparsity(self) -> float:
        """Fraction of zeros."""
        return 1 - self.nonzeros / max(1, self.rows * self.columns)

    @property
    def bound_bytes(self) -> int:
        """Fewest bytes that distinguish this matrix from all others with as many non-zeros: see `information_bound`."""
        return information_bound(self.rows, self.columns, self.nonzeros, self.values)

    def check(self) -> None:
        """Refuse (ValueError) arrays that are not what the format says; decoding is safe wherever they came from."""
        self._weights()

    def dense(self) -> np.ndarray:
        """The weights, float32 (rows, columns), as the arrays tell them: bit for bit the packed ones for fp32.

        Raises:
            ValueError: arrays that are not what the format says.
        """
        row, column, weight = self._weights()
        result = np.zeros((self.rows, self.columns), np.float32)
        result[row, column] = weight
        return result

    def native(self) -> _native.Matrix:
        """The same matrix for the native kernels, which copy the arrays and check them once more.

        Raises:
            NativeError: the module is not there.
            PackingError: arrays that are not what the format says.
        """
        try:
            return extension.require(f"running '{self.name}'").Matrix.from_arrays(
                self.format, self.values, self.rows, self.columns, dict(self.arrays), dict(self.options)
            )
        except ValueError as error:
            raise PackingError(f"matrix '{self.name}' ({self.label}, {self.values}): {error}") from error

    def _weights(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows, columns and weights of all that is not zero, every array checked."""
        row, column = self._places()
        value = restore(self._numbers, self.values).reshape(-1)
        there = value != 0
        if np.signbit(value[~there]).any():
            raise ValueError("a zero has a sign")
        row, column, value = row[there], column[there], value[there]
        if not np.isfinite(value).all():
            raise ValueError("a value is not finite")
        if value.size and (column.max() >= self.columns or row.max() >= self.rows):
            raise ValueError(f"a weight lies outside the matrix of {self.rows} x {self.columns}")
        return row, column, value * self._scales()[row] if self.values in SCALED else value

    def _places(self) -> Places:
        known = self.format in LAYOUTS and self.values in VALUE_TYPES
        if not known or (self.values == "int4" and self.format != INT4_FORMAT):
            raise ValueError(f"there is no format '{self.format}' with values '{self.values}'")
        if not 0 < self.rows <= LARGEST or not 0 < self.columns <= LARGEST or self.rows * self.columns > LARGEST:
            raise ValueError(f"a matrix of {self.rows} x {self.columns} is out of the question")
        if odd := set(self.options) - OPTIONS.get(self.format, set()):
            raise ValueError(f"the format {self.format} has no option '{min(odd)}'")
        expected = {"values", *EXTRA_ARRAYS[self.format], *([SCALES] if self.values in SCALED else [])}
        if set(self.arrays) != expected:
            raise ValueError(f"arrays {', '.join(sorted(self.arrays))} instead of {', '.join(sorted(expected))}")
        if self.arrays["values"].dtype != DTYPES[self.values]:
            raise ValueError(f"array 'values' is {self.arrays['values'].dtype}, not {DTYPES[self.values]}")
        arrays = {**self.arrays, "values": self._numbers}
        return LAYOUTS[self.format](arrays, self.rows, self.columns, self.options)

    def _scales(self) -> np.ndarray:
        scales = self.arrays[SCALES]
        if scales.dtype != np.dtype("<f4") or scales.shape != (self.rows,):
            raise ValueError(f"array 'scales' is {scales.dtype} {scales.shape}, not float32 {(self.rows,)}")
        if not np.isfinite(scales).all() or (scales < 0).any() or (self._numbers < -SCALED[self.values]).any():
            raise ValueError(f"scales must be finite and not negative, values not below -{SCALED[self.values]}")
        return scales


def information_bound(rows: int, columns: int, nonzeros: int, values: str) -> int:
    """Bytes that no way of storing such matrices can go below for all of them: ceil(bits / 8) of

    ``nonzeros * value bits + log2 C(rows * columns, nonzeros)``, and the scales of int8 and int4, 32 bits a row. The
    logarithm is the information in the places of the non-zeros; the values are taken as they are, not entropy-coded.
    """
    cells = rows * columns
    places = math.lgamma(cells + 1) - math.lgamma(nonzeros + 1) - math.lgamma(cells - nonzeros + 1)
    bits = 4 if values == "int4" else 8 * DTYPES[values].itemsize
    scales = 32 * rows if values in SCALED else 0
    # A hair less than the logarithm: its rounding must not lift the bound above what is possible.
    return math.ceil(nonzeros * bits / 8 + places / math.log(2) / 8 * (1 - 1e-9) - 1e-6) + scales // 8


__all__ = ["FORMATS", "PackedMatrix", "PackingError", "information_bound"]
