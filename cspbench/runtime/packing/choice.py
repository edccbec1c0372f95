"""Which format a matrix gets when nobody says: the fastest here, or the smallest.

``auto`` measures: each format that takes fewer bytes than dense, or hardly more, is timed beside dense on the matrix
itself (see `cost`), in the cache and out of it. A format that is slower than dense in either is out, so that packing
never hurts. Of the others the one with the lowest geometric mean of both wins. Ratios within `TIE` are noise and decide
nothing: of such formats the smallest is taken. Without the native module nothing can be measured, and ``auto`` is
``smallest``.

With int4 values windows hold int4 and all other formats int8: both searches choose between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from cspbench.runtime import extension
from cspbench.runtime.packing.cost import Cost, measured_costs
from cspbench.runtime.packing.encode import IN_NUMPY, pack_matrix, parse_format
from cspbench.runtime.packing.matrix import FORMATS, PackedMatrix
from cspbench.runtime.packing.values import INT4_FORMAT, SCALED, PackingError

TIE = 1.03
BLOCKS = ("block:4x4", "block:8x1", "block:1x8")
GROUPS = (4, 8, 16)
WINDOWS = ("window:64", "window:128", "window:256", "window:64x16", "window:128x16", "window:256x16")
BITMAP_OF_BYTES = "bitmap:4"
"""Its four rows share a kernel for int8; in other types of values it gains nothing over ``bitmap``."""
LARGER = 1.1
"""A window may take so many times the bytes of dense and yet be faster: in int8, half of the weights fill as many."""
STRUCTURED = 1.25
"""N of M may take so many times the bytes of the smallest other format and yet be faster: 2 of 4 takes 1.06."""

Search = Callable[[np.ndarray, str, str, Callable[[str], None]], PackedMatrix]


def smallest(weight: np.ndarray, values: str, name: str, say: Callable[[str], None]) -> PackedMatrix:
    """The fewest bytes among the formats that every machine can pack, so that sizes are the same on all of them.

    For int4 windows are among them. They need the native module: NativeError where it is absent.
    """
    labels = list(IN_NUMPY)
    if values == "int4":
        extension.require("packing int4 values")
        labels += WINDOWS
    return min(_possible(weight, labels, values, name).values(), key=lambda packed: packed.bytes)


def fastest(weight: np.ndarray, values: str, name: str, say: Callable[[str], None]) -> PackedMatrix:
    """The lowest measured cost on this machine."""
    if not extension.available():
        return smallest(weight, values, name, say)
    found = candidates(weight, values, name)
    if len(found) == 1:
        return found["dense"]
    costs, quiet = measured_costs(found, lambda: say(f"{name}: timing {', '.join(found)}"))
    if not quiet:
        say(f"{name}: the machine was too busy to time formats well; they are timed again when it is packed next")
    return found[choose(costs, {label: m.bytes for label, m in found.items()})]


SEARCHES: Mapping[str, Search] = {"auto": fastest, "smallest": smallest}


def candidates(weight: np.ndarray, values: str, name: str) -> dict[str, PackedMatrix]:
    """Dense, and every format that takes fewer bytes; the window in several shapes, up to `LARGER` times the bytes.

    Blocks and N of M come in several shapes. The smallest is a candidate where the matrix has such a structure: where
    it is not far larger than a format that expects none.
    """
    labels = [f for f in FORMATS if f not in ("block", "nm", "window")] + list(WINDOWS)
    found = _possible(weight, [*labels, BITMAP_OF_BYTES] if values in SCALED else labels, values, name)
    dense, least = found["dense"].bytes, min(m.bytes for m in found.values())
    for shapes in (list(BLOCKS), [f"nm:{_most(weight, m)}:{m}" for m in GROUPS]):
        shaped = sorted(_possible(weight, shapes, values, name).items(), key=lambda item: item[1].bytes)
        found |= {label: m for label, m in shaped[:1] if m.bytes <= STRUCTURED * least}
    most = {"dense": dense, "window": int(LARGER * dense)}
    return {label: m for label, m in found.items() if m.bytes <= most.get(m.format, dense - 1)}


def _possible(weight: np.ndarray, labels: list[str], values: str, name: str) -> dict[str, PackedMatrix]:
    """The matrix in each format that takes it. What no format takes, e.g. NaN, dense refuses, and so do we."""
    found = {"dense": pack_matrix(weight, "dense", _values_in("dense", values), name=name)} if "dense" in labels else {}
    for label in (x for x in labels if x != "dense"):
        try:
            found[label] = pack_matrix(weight, label, _values_in(label, values), name=name)
        except PackingError:  # too many columns for it, or more non-zeros in a group than N
            continue
    return found


def _values_in(label: str, values: str) -> str:
    """The type of values in a format: where there are no int4, int8."""
    return "int8" if values == "int4" and parse_format(label)[0] != INT4_FORMAT else values


def _most(weight: np.ndarray, m: int) -> int:
    """Non-zeros in the fullest group of `m` adjacent columns; at least 1."""
    padded = np.pad(weight != 0, ((0, 0), (0, -weight.shape[1] % m)))
    return max(1, int(padded.reshape(len(weight), -1, m).sum(axis=2).max()))


def choose(costs: Mapping[str, Cost], sizes: Mapping[str, int]) -> str:
    """The format to take, by the rule above."""
    dense = costs["dense"]
    allowed = {x: c for x, c in costs.items() if c.hot <= dense.hot * TIE and c.cold <= dense.cold * TIE}
    means = {label: math.sqrt(c.hot * c.cold) for label, c in allowed.items()}
    best = min(means.values())
    return min((x for x, mean in means.items() if mean <= best * TIE), key=lambda x: (sizes[x], x))
