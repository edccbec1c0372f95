"""Products of packed matrices, and the streaming recogniser made of them; native code (cspbench/runtime/native)."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

def instruction_sets() -> list[str]:
    """Instruction sets that this build and this processor have, the best last; "portable" is always the first."""

def current() -> str:
    """The instruction set in use: the best, unless `use` was called."""

def use(name: str) -> None:
    """Use this instruction set from now on, in the whole process. ValueError if it is not available."""

def clock_overhead() -> float:
    """Median seconds between two readings of the clock that `Matrix.time` uses."""

def read_bandwidth(bytes: int, seconds: float = 0.15) -> float:
    """Bytes a second at which one thread reads a buffer of `bytes` over and over: the best of several patterns."""

class Matrix:
    """A packed matrix: immutable, safe to share between threads.

    fp32 sums may come in any order; int8 results are the same bit for bit in every format and on every instruction set.
    """

    @staticmethod
    def pack(dense: NDArray[np.float32], format: str, values: str, **options: int | tuple[int, int]) -> Matrix:
        """Pack weights (rows, columns), C-contiguous; -0 is stored as 0.

        Args:
            dense: finite weights.
            format: "dense", "bitmap", "csr16", "csr8", "window", "block" or "nm".
            values: "fp32", "fp16", "bf16" or "int8" (a scale a row: max|w| / 127, rounded half to even).
            options: block=(rows, columns), nm=(n, m), or what `options` of a matrix shows.

        Raises:
            ValueError: weights or options do not suit the format.
        """

    @staticmethod
    def from_arrays(
        format: str,
        values: str,
        rows: int,
        columns: int,
        arrays: Mapping[str, NDArray[np.generic]],
        options: Mapping[str, int] = ...,
    ) -> Matrix:
        """A matrix of what `arrays()` and `options` gave, copied and then checked entirely.

        Raises:
            ValueError: anything in it is not as the format has it; nothing that passes can make a product read outside.
        """

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What a file keeps: read-only views by name. bf16 comes as uint16."""

    def dense(self) -> NDArray[np.float32]:
        """Weights (rows, columns), zeros in their places; of fp32 bit for bit what was packed."""

    def multiply(self, x: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """W x: (rows,) of x (columns,), or (batch, rows) of (batch, columns)."""

    def time(self, x: NDArray[np.float32], repeats: int, evict: int = 0, threads: int = 1) -> NDArray[np.float64]:
        """Seconds of each of so many products, the first without warm-up.

        evict > 0: so many bytes of other memory are read before each, untimed; more than the caches hold makes every
        product a cold one.
        """

    @property
    def options(self) -> dict[str, int]: ...
    @property
    def format(self) -> str: ...
    @property
    def values(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def nonzeros(self) -> int:
        """Weights that are not zero once rounded to their type."""

    @property
    def stored(self) -> int:
        """Values stored, padding included."""

    @property
    def bytes(self) -> int:
        """Exact sum of the arrays."""
