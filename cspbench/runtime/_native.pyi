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

    fp32 sums may come in any order; results of int8 and int4 are the same bit for bit in every format and on every
    instruction set.
    """

    @staticmethod
    def pack(dense: NDArray[np.float32], format: str, values: str, **options: int | tuple[int, int]) -> Matrix:
        """Pack weights (rows, columns), C-contiguous; -0 is stored as 0.

        Args:
            dense: finite weights.
            format: "dense", "bitmap", "csr16", "csr8", "window", "block" or "nm".
            values: "fp32", "fp16", "bf16", "int8" or, for the format "window" alone, "int4" (a scale a row:
                max|w| / 127 or max|w| / 7, rounded half to even).
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
        """What a file keeps: read-only views by name. bf16 comes as uint16, int4 as uint8, two a byte."""

    def dense(self) -> NDArray[np.float32]:
        """Weights (rows, columns), zeros in their places; of fp32 bit for bit what was packed."""

    def multiply(self, x: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
        """W x: (rows,) of x (columns,), or (batch, rows) of (batch, columns)."""

    def useful_threads(self, most: int, batch: int = 1) -> int:
        """Threads, at most `most`, that pay for a product with so many vectors; a recogniser's products take those."""

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

def elementwise(name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """exponential, sigmoid, tanh or logarithm of each value, as the engine computes them."""

class Conformer:
    """A conformer encoder on packed weights: immutable, shared by streams."""

    layers: int

    def advance(
        self,
        x: NDArray[np.float32],
        keys: NDArray[np.float32],
        values: NDArray[np.float32],
        gated: NDArray[np.float32],
        threads: int = 1,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Encode a chunk.

        Args:
            x: features (T, C), at most a chunk.
            keys: of the frames before, without their positions, (layers, L, H); L = 0 at first.
            values: of the frames before, (layers, L, H).
            gated: inputs of the convolution, (layers, kernel - 1, H), zeros at first.
            threads: of a product.

        Returns:
            Encodings (T, H), and keys, values and gated inputs for the next chunk.

        Raises:
            ValueError: other shapes.
        """

def make_conformer(
    *,
    projection: tuple[Matrix, NDArray[np.float32]],
    blocks: list[dict[str, tuple[object, ...]]],
    heads: int,
    kernel: int,
    chunk: int,
    left: int,
) -> Conformer:
    """Make an encoder; `cspbench.runtime.conformer` says what a block is made of.

    Raises:
        ValueError: sizes that do not fit each other.
    """

class Lstm:
    """A stack of LSTM layers on packed weights, and the state of one stream."""

    def __init__(self, layers: list[tuple[Matrix, NDArray[np.float32]]], threads: int = 1) -> None:
        """A layer: a matrix (4 H, in + H), gates i f g o, input and recurrent weights side by side, and a bias (4 H,).

        Raises:
            ValueError: shapes that do not fit each other, or a bias that is not finite.
        """

    def step(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(C,) -> (H,) of the last layer."""

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, C) -> (T, H)."""

    def reset(self) -> None:
        """Back to zero states."""

    def time(self, steps: int, evict: int = 0, seed: int = 0) -> NDArray[np.float64]:
        """Seconds of each of so many steps on random inputs, looped natively; `evict` as for `Matrix.time`."""

class FrontEnd:
    """Log-mel energies as Kaldi has them. ValueError for what cannot be: bins without a frequency, windows too long.

    `floor` is added to every mel energy, at the 16-bit scale; 0 cuts energies where Kaldi does.
    """

    def __init__(self, sample_rate: int, window_ms: float, hop_ms: float, mels: int, floor: float = 0.0) -> None: ...
    def follow_level(self, fall: float, above: float, follow_background: bool = False) -> None:
        """Make features relative to a reference level, as `cspbench.corpora.frames.ReferenceLevel` does."""

    @property
    def window(self) -> int:
        """Samples of a frame."""

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""

    def frames(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Samples (N,) in [-1, 1] -> (frames, mels); whole windows only."""

class Network:
    """A recogniser on packed weights: immutable, shared by its streams. `make_network` makes it."""

    @property
    def inputs(self) -> int:
        """Features of a step: mels x stack."""

    @property
    def units(self) -> int:
        """Outputs of the joint, blank included."""

    @property
    def shape(self) -> list[int]:
        """Sizes that a saved state has to agree with."""

def make_network(
    *,
    encoder: list[tuple[Matrix, NDArray[np.float32]]],
    embedding: NDArray[np.float32],
    prediction: list[tuple[Matrix, NDArray[np.float32]]],
    joint_encoder: tuple[Matrix, NDArray[np.float32]],
    joint_prediction: Matrix,
    joint_output: tuple[Matrix, NDArray[np.float32]],
    mean: NDArray[np.float32],
    scale: NDArray[np.float32],
    stack: int,
    front_end: FrontEnd | None,
    max_symbols: int,
    blank: int,
    threads: int = 1,
) -> Network:
    """The network of its parts.

    Args:
        encoder: layers as `Lstm` takes them.
        embedding: (units, P).
        prediction: layers.
        joint_encoder: matrix and bias.
        joint_prediction: has no bias.
        joint_output: matrix and bias.
        mean: of the features, (mels,).
        scale: reciprocal standard deviation, (mels,).
        stack: frames of a step.
        front_end: None for streams that take features only.
        max_symbols: labels in one step at most.
        blank: label that ends a step.
        threads: of each product.

    Raises:
        ValueError: parts that do not fit each other.
    """

class Stream:
    """One utterance as it is decoded. RuntimeError if two threads use it at once."""

    def __init__(self, network: Network) -> None: ...
    def accept(self, samples: NDArray[np.float32]) -> list[int]:
        """Samples (N,) in [-1, 1] at the front end's rate -> new labels; ValueError if not finite or far too loud."""

    def accept_features(self, features: NDArray[np.float32]) -> list[int]:
        """Log-mel features (frames, mels) in place of samples -> new labels."""

    def finish(self) -> None:
        """The utterance is over; a rest that fills no step is dropped."""

    def reset(self) -> None:
        """Reset the decoder state."""

    def state(self) -> bytes:
        """Everything about the stream; native byte order."""

    def restore(self, state: bytes) -> None:
        """Go on from a state; ValueError, and nothing changed, if it is damaged or of a network of another shape."""

    def time(self, samples: NDArray[np.float32], chunk: int, evict: int = 0) -> NDArray[np.float64]:
        """Accept samples in whole chunks; seconds of each."""

    @property
    def steps(self) -> int:
        """Steps of the model so far."""

    @property
    def finished(self) -> bool:
        """Whether `finish` was called."""

def advance(streams: list[Stream], samples: list[NDArray[np.float32]]) -> list[list[int]]:
    """Feed a chunk of samples to each of many streams of one network, stepping them together: new labels of each."""
