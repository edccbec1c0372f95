"""Random sensing ensembles, scaled so that ``E[Phi^T Phi] = I``: squared errors before and after are comparable."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from cspbench.sensing.operators import Dense, Operator


class SubsampledDCT(Operator):
    """Some rows of the orthonormal DCT-II, scaled by sqrt(n/q), applied by FFT: O(n log n) a row, no matrix is stored.

    Even samples in order, then odd samples in reverse, turn a DCT-II into one complex FFT of the same length (Makhoul
    1980, "A fast cosine transform in one and two dimensions", section II); the adjoint undoes the steps one by one.

    Args:
        columns: length n of a signal.
        chosen: indices of the rows that are kept, strictly increasing, shape (q,).
        device: where it is applied.
    """

    def __init__(self, columns: int, chosen: Tensor, device: torch.device | str | None = None) -> None:
        super().__init__(columns, len(chosen), device)
        if int(chosen.min()) < 0 or int(chosen.max()) >= columns or bool((chosen.diff() <= 0).any()):
            raise ValueError(f"rows of a DCT of {columns} columns are increasing indices from 0 to {columns - 1}")
        self.chosen = chosen.to(self.device)
        shuffle = torch.cat([torch.arange(0, columns, 2), torch.arange(1, columns, 2).flip(0)])
        self._shuffle, self._unshuffle = shuffle.to(self.device), shuffle.argsort().to(self.device)
        phase = -math.pi / (2 * columns) * torch.arange(columns, dtype=torch.float64)
        scale = torch.full((columns,), math.sqrt(2 / len(chosen)), dtype=torch.float64)
        scale[0] = math.sqrt(1 / len(chosen))
        self._twiddles = torch.polar(scale, phase).to(self.device)

    def measure(self, x: Tensor) -> Tensor:
        """``x Phi^T``, by FFT."""
        spectrum = torch.fft.fft(x[..., self._shuffle])
        return (spectrum * self._twiddles.to(spectrum.dtype)).real[..., self.chosen]

    def adjoint(self, y: Tensor) -> Tensor:
        """``y Phi``, by inverse FFT."""
        spectrum = y.new_zeros(*y.shape[:-1], self.columns)
        spectrum[..., self.chosen] = y
        turned = spectrum * self._twiddles.conj().to(torch.promote_types(y.dtype, torch.complex64))
        return torch.fft.ifft(turned, norm="forward").real[..., self._unshuffle]

    def resolvent(self, x: Tensor, shift: float) -> Tensor:
        """``x (Phi^T Phi + shift I)^-1`` in closed form, as ``Phi Phi^T`` is a multiple of the identity."""
        return (x - self.normal(x) / (self.lipschitz + shift)) / shift

    @cached_property
    def lipschitz(self) -> float:
        """n/q, exactly: the rows are orthogonal."""
        return self.columns / self.measurements

    @cached_property
    def mean_curvature(self) -> float:
        """One, exactly."""
        return 1.0


Device = torch.device | str


def gaussian(columns: int, measurements: int, generator: torch.Generator, device: Device = "cpu") -> Operator:
    """Independent normal entries of variance 1/q; drawn on the CPU, where the generator is."""
    return Dense((torch.randn(measurements, columns, generator=generator) / math.sqrt(measurements)).to(device))


def rademacher(columns: int, measurements: int, generator: torch.Generator, device: Device = "cpu") -> Operator:
    """Random signs over sqrt(q); drawn on the CPU, where the generator is."""
    signs = torch.randint(0, 2, (measurements, columns), generator=generator)
    return Dense(((2.0 * signs - 1) / math.sqrt(measurements)).to(device))


def dct(columns: int, measurements: int, generator: torch.Generator, device: Device = "cpu") -> Operator:
    """A random choice of q rows of the DCT; drawn on the CPU, where the generator is."""
    if measurements > columns:
        raise ValueError(f"a DCT of {columns} columns has no {measurements} rows to choose from")
    return SubsampledDCT(columns, torch.randperm(columns, generator=generator)[:measurements].sort().values, device)


ENSEMBLES: dict[str, Callable[[int, int, torch.Generator, Device], Operator]] = {
    "gaussian": gaussian,
    "rademacher": rademacher,
    "dct": dct,
}


def random_operator(
    ensemble: str, columns: int, ratio: float, seed: int, device: torch.device | str | None = None
) -> Operator:
    """Draw an operator of a random ensemble; the same seed gives the same operator on every device.

    Args:
        ensemble: a key of `ENSEMBLES`.
        columns: length n of a signal.
        ratio: measurements per column, in (0, 1]; q = ceil(ratio * n).
        seed: of the draw.
        device: where the operator will be applied.

    Raises:
        ValueError: an unknown ensemble, or a ratio out of range.
    """
    if ensemble not in ENSEMBLES:
        raise ValueError(f"unknown ensemble '{ensemble}' (known: {', '.join(ENSEMBLES)})")
    if not 0 < ratio <= 1:
        raise ValueError(f"measurement ratio must be in (0, 1], got {ratio}")
    generator = torch.Generator().manual_seed(seed)
    return ENSEMBLES[ensemble](columns, math.ceil(ratio * columns), generator, device or "cpu")
