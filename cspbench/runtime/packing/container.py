"""Named arrays and one JSON value in one safetensors file that can be trusted, or is refused.

The library writes the file. Reading is ours, because its numpy reader copies what can be mapped; and because a file
from anywhere may be broken or made to deceive, every number in it is checked before it is used. Sums (sha256) find what
a disk or a network broke, in the arrays and in the JSON value alike; they are no signature: whoever writes a file can
write its sums, so what is read must still be checked for sense by those who use it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from cspbench.errors import CspbenchError

KEY = "cspbench"
"""Our entry in the file's metadata. One alone: the library writes several in random order, and equal models are to be
equal files."""
LENGTH = 8  # bytes of the little-endian number a safetensors file begins with: the size of its header
MAX_HEADER = 100_000_000  # the library's own limit
DTYPES = {
    name: np.dtype(code).newbyteorder("<")
    for name, code in {"F32": "f4", "F16": "f2", "I8": "i1", "U8": "u1", "U16": "u2", "U32": "u4", "U64": "u8"}.items()
}


class PackedFileError(CspbenchError):
    """A packed file that cannot be used: the message names the file and what is wrong with it."""


def digest(array: np.ndarray) -> str:
    """sha256 of the bytes of an array, in hex."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() if array.size else hashlib.sha256().hexdigest()


def serialise(value: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """The file as bytes: equal for equal contents."""
    sums = {name: digest(array) for name, array in sorted(arrays.items())}
    text = json.dumps({"value": value, "sha256": sums}, sort_keys=True, separators=(",", ":"), allow_nan=False)
    contiguous = {name: np.ascontiguousarray(array) for name, array in sorted(arrays.items())}
    return save(contiguous, metadata={KEY: seal(text)})


def read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The JSON value and the arrays, which are read-only views of the mapped file.

    Raises:
        PackedFileError: not such a file, cut off, or changed since it was written.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        raise PackedFileError(f"there is no file {path}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        remedy = "it is damaged or no packed model; pack the model again with `cspbench pack`"
        raise PackedFileError(f"{path} cannot be read: {error}; {remedy}") from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH), "little")
        if size < LENGTH or length > min(size - LENGTH, MAX_HEADER):
            raise ValueError(f"it is cut off, or no safetensors file: {size} bytes cannot hold its header")
        entries = _object(json.loads(file.read(length)), "its header")
    metadata = _object(entries.pop("__metadata__", {}), "its metadata")
    if KEY not in metadata:
        raise ValueError("this safetensors file was not written by cspbench")
    value, sums = _unseal(metadata[KEY])
    if set(sums) != set(entries):
        raise ValueError("the arrays it holds are not those its header lists")
    payload = _map(path, LENGTH + length, size)
    arrays = dict(_arrays(entries, payload))
    for name, array in arrays.items():
        if digest(array) != sums[name]:
            raise ValueError(f"the contents of '{name}' have changed since it was written")
    return value, arrays


def seal(text: str) -> str:
    """A text with its own sum before it."""
    return f"{hashlib.sha256(text.encode()).hexdigest()} {text}"


def _unseal(sealed: Any) -> tuple[dict[str, Any], dict[str, str]]:
    text = str(sealed).partition(" ")[2]
    if sealed != seal(text):
        raise ValueError("its header has changed since it was written")
    header = _object(json.loads(text), "its header")
    return _object(header.get("value"), "its header"), _object(header.get("sha256"), "its list of sums")


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is no JSON object")
    return value


def _map(path: Path, start: int, size: int) -> np.ndarray:
    if start == size:
        return np.zeros(0, np.uint8)  # nothing to map
    return np.memmap(path, np.uint8, mode="r", offset=start, shape=(size - start,))


def _arrays(entries: dict[str, Any], payload: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Views of the payload. Together they must cover it, without gap or overlap: no byte goes unchecked."""
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: _span(item[1])):
        begin, stop = _span(entry)
        dtype, shape = DTYPES.get(entry["dtype"]), entry["shape"]
        if dtype is None:
            raise ValueError(f"'{name}' is of the unknown type {entry['dtype']!r}")
        if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
            raise ValueError(f"'{name}' has the impossible shape {shape!r}")
        count = 1
        for n in shape:
            count *= n
        if begin != end or stop > len(payload) or stop - begin != count * dtype.itemsize:
            raise ValueError(f"it is cut off, or '{name}' does not lie where its header says")
        yield name, payload[begin:stop].view(dtype).reshape(shape)
        end = stop
    if end != len(payload):
        raise ValueError(f"it holds {len(payload) - end} bytes more than its header says")


def _span(entry: Any) -> tuple[int, int]:
    begin, stop = entry["data_offsets"]
    if type(begin) is not int or type(stop) is not int or not 0 <= begin <= stop:
        raise ValueError(f"impossible offsets {entry['data_offsets']!r}")
    return begin, stop
