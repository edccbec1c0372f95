"""Position in the matrix of each stored value, format by format, in numpy.

A layout takes the arrays of a matrix as they were read, refuses them (ValueError) if they are not what the format says,
and returns row and column of every slot of ``values`` in order. Everything else - decoding, checking, counting -
follows. The native module has its own decoders; tests hold each against the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]
Options = Mapping[str, int]
Places = tuple[np.ndarray, np.ndarray]
"""Rows and columns, each of as many entries as there are slots."""
Layout = Callable[[Arrays, int, int, Options], Places]

LARGEST = 2**31 - 1


def array(arrays: Arrays, name: str, dtype: str, *shape: int | None) -> np.ndarray:
    """One array of a matrix, of this type and shape (None: any size)."""
    if name not in arrays:
        raise ValueError(f"array '{name}' is missing")
    found = arrays[name]
    same = len(found.shape) == len(shape) and all(b is None or a == b for a, b in zip(found.shape, shape, strict=True))
    if found.dtype != np.dtype(dtype) or not same:
        wanted = tuple("any" if n is None else n for n in shape)
        raise ValueError(f"array '{name}' is {found.dtype} {found.shape}, not {np.dtype(dtype)} {wanted}")
    return found


def count(arrays: Arrays) -> int:
    """Number of values, in formats that have them in one row."""
    if arrays["values"].ndim != 1:
        raise ValueError(f"array 'values' is {arrays['values'].shape}, not in one row")
    return arrays["values"].size


def sizes(arrays: Arrays, units: int, stored: int) -> np.ndarray:
    """Entries of each of the `units` rows, from ``starts`` (units + 1,)."""
    starts = array(arrays, "starts", "<u4", units + 1).astype(np.int64)
    counts = np.diff(starts)
    if starts[0] != 0 or starts[-1] != stored or (counts < 0).any():
        raise ValueError(f"array 'starts' does not ascend from 0 to {stored}")
    return counts


def ascending(rows: np.ndarray, columns: np.ndarray, limit: int) -> None:
    """Refuse columns that do not ascend within their row, or reach `limit`."""
    if columns.size and columns.max() >= limit:
        raise ValueError(f"a column is {columns.max()}, and there are {limit}")
    if ((np.diff(rows) == 0) & (np.diff(columns) <= 0)).any():
        raise ValueError("the columns of a row do not ascend")


def dense(arrays: Arrays, rows: int, columns: int, options: Options) -> Places:
    """``values`` (rows, columns)."""
    if arrays["values"].shape != (rows, columns):
        raise ValueError(f"array 'values' is {arrays['values'].shape}, not {(rows, columns)}")
    row, column = np.divmod(np.arange(rows * columns, dtype=np.int32), columns)
    return row, column


BITMAP_LANES = (1, 4)


def bitmap(arrays: Arrays, rows: int, columns: int, options: Options) -> Places:
    """``bits``: bit c % 64 of word c // 64 of a row says whether column c is stored; the values follow row by row.

    With four ``lanes``, four rows form a group, (groups, words, lanes): their words alternate, and so do their values.
    ``starts`` is of groups.
    """
    lanes = options.get("lanes", 1)
    if lanes not in BITMAP_LANES:
        raise ValueError(f"there are no bitmaps of {lanes} lanes")
    stored = count(arrays)
    groups, words = -(-rows // lanes), -(-columns // 64)
    bits = array(arrays, "bits", "<u8", *((rows, words) if lanes == 1 else (groups, words, lanes)))
    shape = groups, words * lanes * 64
    there = np.unpackbits(np.ascontiguousarray(bits).view(np.uint8), bitorder="little").reshape(shape)
    if (there.sum(axis=1, dtype=np.int64) != sizes(arrays, groups, stored)).any():
        raise ValueError("arrays 'bits' and 'starts' do not tell of the same number of values")
    group, place = np.nonzero(there)
    word, bit = np.divmod(place, 64)
    row, column = group * lanes + word % lanes, word // lanes * 64 + bit
    if stored and (column.max() >= columns or row.max() >= rows):
        raise ValueError(f"array 'bits' tells of places beyond {rows} rows and {columns} columns")
    return row, column


def csr16(arrays: Arrays, rows: int, columns: int, options: Options) -> Places:
    """``columns``: the column of each value, 16 bits."""
    stored = count(arrays)
    counts = sizes(arrays, rows, stored)
    row = np.repeat(np.arange(rows), counts)
    column = array(arrays, "columns", "<u2", stored).astype(np.int64)
    ascending(row, column, columns)
    return row, column


def csr8(arrays: Arrays, rows: int, columns: int, options: Options) -> Places:
    """``gaps``: columns since the entry before; one of 256 and more is bridged by entries of value zero."""
    stored = count(arrays)
    counts = sizes(arrays, rows, stored)
    row = np.repeat(np.arange(rows), counts)
    total = np.concatenate([[0], np.cumsum(array(arrays, "gaps", "u1", stored).astype(np.int64) + 1)])
    first = np.cumsum(counts) - counts
    column = total[1:] - total[first[row]] - 1
    ascending(row, column, columns)
    return row, column


def block(arrays: Arrays, rows: int, columns: int, options: Options) -> Places:
    """``columns``: columns of the blocks in units of blocks; ``values`` (blocks, block rows, block columns)."""
    height, width = options.get("block_rows", 0), options.get("block_columns", 0)
    if not 1 <= height <= 64 or not 1 <= width <= 64:
        raise ValueError(f"blocks of {height} x {width} there are not")
    blocks = arrays["values"].size // (height * width)
    if arrays["values"].shape != (blocks, height, width):
        raise ValueError(f"array 'values' is {arrays['values'].shape}, not made of blocks of {height} x {width}")
    units = -(-rows // height)
    counts = sizes(arrays, units, blocks)
    unit = np.repeat(np.arange(units), counts)
    place = array(arrays, "columns", "<u2", blocks).astype(np.int64)
    ascending(unit, place, -(-columns // width))
    shape = (blocks, height, width)
    row = np.broadcast_to((unit * height)[:, None, None] + np.arange(height)[:, None], shape)
    column = np.broadcast_to((place * width)[:, None, None] + np.arange(width), shape)
    return row.reshape(-1), column.reshape(-1)


def nm(arrays: Arrays, rows: int, columns: int, options: Options) -> Places:
    """N values a group of M columns; ``positions``: their columns inside it, two a byte, the first in the low half."""
    n, m = options.get("n", 0), options.get("m", 0)
    if not 1 <= n <= m <= 16:
        raise ValueError(f"{n} of {m} there is not: N and M must be 1 <= N <= M <= 16")
    groups = -(-columns // m)
    if arrays["values"].shape != (rows, groups, n):
        raise ValueError(f"array 'values' is {arrays['values'].shape}, not {(rows, groups, n)}")
    packed = array(arrays, "positions", "u1", rows, -(-groups * n // 2))
    halves = np.stack([packed & 15, packed >> 4], axis=-1).reshape(rows, -1)
    if halves[:, groups * n :].any():
        raise ValueError("array 'positions' holds more than there are values")
    inside = halves[:, : groups * n].reshape(rows, groups, n).astype(np.int64)
    if (inside >= m).any():
        raise ValueError(f"array 'positions' points beyond a group of {m} columns")
    row = np.broadcast_to(np.arange(rows)[:, None, None], inside.shape)
    column, filled = np.arange(groups)[:, None] * m + inside, arrays["values"] != 0
    ascending(row[filled], column[filled], columns)
    return row.reshape(-1), column.reshape(-1)


LANES, SLOTS = (8, 16), 4  # of a step of the window format
INPUT_MULTIPLE, INPUT_MARGIN = 64, 128  # zeros that follow an input vector, where a window may look
MOST_WINDOW_ROWS = 2**16


def window(arrays: Arrays, rows: int, columns: int, options: Options) -> Places:
    """`lanes` rows advance together; in a step each has four slots, within a window of columns from the step's base on.

    ``slots`` (steps, lanes, 4): column less base. ``advance`` (steps,): how far the base moves before the step.
    ``starts``: first step of each group. ``order`` (rows,): the matrix's row in each lane of each group.
    """
    extent = -(-columns // INPUT_MULTIPLE) * INPUT_MULTIPLE + INPUT_MARGIN
    width = options.get("window", 128 if arrays["values"].dtype == np.int8 or extent < 256 else 256)
    if width not in (64, 128, 256) or width > extent:
        raise ValueError(f"there is no window of {width} columns")
    lanes = options.get("lanes", LANES[0])
    if lanes not in LANES:
        raise ValueError(f"there are no windows of {lanes} lanes")
    if rows > MOST_WINDOW_ROWS:
        raise ValueError(f"{rows} rows are more than 'order' can name")
    steps = arrays["values"].size // (lanes * SLOTS)
    if arrays["values"].shape != (steps, lanes, SLOTS):
        raise ValueError(f"array 'values' is {arrays['values'].shape}, not {(steps, lanes, SLOTS)}")
    slots = array(arrays, "slots", "u1", steps, lanes, SLOTS).astype(np.int64)
    groups = -(-rows // lanes)
    counts = sizes(arrays, groups, steps)
    group = np.repeat(np.arange(groups), counts)
    base = _bases(array(arrays, "advance", "u1", steps), group)
    if (slots >= width).any() or (base + width > extent).any() or (base[:, None, None] + slots >= columns).any():
        raise ValueError("a window or a slot of it lies beyond the columns")
    lane = np.broadcast_to(np.arange(lanes)[:, None], slots.shape)
    row = _rows_of_lanes(arrays, rows, lanes)[group[:, None, None] * lanes + lane]
    column = base[:, None, None] + slots
    _check_slots(row, column, slots, arrays["values"] != 0)
    return np.maximum(row, 0).reshape(-1), column.reshape(-1)


def _bases(advance: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Base of each step: the sum of the advances since the first step of its group."""
    total = np.cumsum(advance, dtype=np.int64)
    first = np.concatenate([[True], group[1:] != group[:-1]]) if group.size else np.zeros(0, bool)
    before = (total - advance)[first]
    return total - np.repeat(before, np.diff(np.append(np.nonzero(first)[0], group.size)))


def _rows_of_lanes(arrays: Arrays, rows: int, lanes: int) -> np.ndarray:
    order = array(arrays, "order", "<u2", rows).astype(np.int64)
    if (np.sort(order) != np.arange(rows)).any():
        raise ValueError("array 'order' does not name every row once")
    return np.pad(order, (0, -rows % lanes), constant_values=-1)  # lanes without a row


def _check_slots(row: np.ndarray, column: np.ndarray, slots: np.ndarray, filled: np.ndarray) -> None:
    """Filled slots lead in their lane and step, have a row, and ascend along it; empty ones point nowhere."""
    if (filled & (row < 0)).any() or (filled[..., 1:] & ~filled[..., :-1]).any() or slots[~filled].any():
        raise ValueError("empty slots are not where they belong")
    # In the order of lanes, steps, slots: a row's weights one after the other, as each row has one lane.
    order = np.argsort(row[filled], kind="stable")
    ascending(row[filled][order], column[filled][order], int(column.max(initial=0)) + 1)


LAYOUTS: dict[str, Layout] = {
    "dense": dense,
    "bitmap": bitmap,
    "csr16": csr16,
    "csr8": csr8,
    "window": window,
    "block": block,
    "nm": nm,
}
EXTRA_ARRAYS = {
    "dense": (),
    "bitmap": ("bits", "starts"),
    "csr16": ("columns", "starts"),
    "csr8": ("gaps", "starts"),
    "window": ("slots", "advance", "order", "starts"),
    "block": ("columns", "starts"),
    "nm": ("positions",),
}
"""Arrays of each format beside ``values`` and, for int8 and int4, ``scales``."""
OPTIONS = {
    "bitmap": {"lanes"},
    "block": {"block_rows", "block_columns"},
    "nm": {"n", "m"},
    "window": {"window", "lanes"},
}
"""Parameters of the formats that have any."""
