"""Sensing operators: linear maps from weight rows of length n to q measurements.

A signal is a row; matrices are batches of rows, so ``measure`` maps (..., n) to (..., q). Random ensembles are scaled
so that ``E[Phi^T Phi] = I``: squared errors before and after measuring are comparable.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor


class Operator(ABC):
    """A linear map ``Phi`` of shape (measurements, columns), applied to rows.

    Attributes:
        columns: length n of a signal.
        measurements: length q of its measurement.
    """

    def __init__(self, columns: int, measurements: int, device: torch.device | str | None = None) -> None:
        if columns < 1 or measurements < 1:
            raise ValueError(f"an operator needs columns and measurements >= 1, got {columns} and {measurements}")
        self.columns = columns
        self.measurements = measurements
        self.device = torch.device(device or "cpu")

    @abstractmethod
    def measure(self, x: Tensor) -> Tensor:
        """``x Phi^T``: (..., n) to (..., q)."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """``y Phi``: (..., q) to (..., n)."""

    def normal(self, x: Tensor) -> Tensor:
        """``x Phi^T Phi``: (..., n) to (..., n)."""
        return self.adjoint(self.measure(x))

    def gram(self) -> Tensor:
        """``Phi^T Phi`` of shape (n, n)."""
        return self.normal(torch.eye(self.columns, device=self.device))

    @cached_property
    def lipschitz(self) -> float:
        """Largest eigenvalue of the Gram: gradient steps of 1/lipschitz never increase the misfit."""
        largest = torch.linalg.eigvalsh(self.gram().double())[-1]
        return max(float(largest) * (1 + 1e-6), torch.finfo(torch.float32).tiny)

    @cached_property
    def mean_curvature(self) -> float:
        """Mean of the Gram's diagonal: one for columns of unit norm."""
        return max(float(self.gram().diagonal().mean()), torch.finfo(torch.float32).tiny)


class Identity(Operator):
    """Measures the weights themselves: the limit in which sensing is proximal pruning."""

    def __init__(self, columns: int, device: torch.device | str | None = None) -> None:
        super().__init__(columns, columns, device)

    def measure(self, x: Tensor) -> Tensor:
        """``x`` itself."""
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """``y`` itself."""
        return y

    @cached_property
    def lipschitz(self) -> float:
        """One."""
        return 1.0


class Dense(Operator):
    """Any explicit matrix ``Phi`` of shape (q, n)."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(matrix.shape[1], matrix.shape[0], matrix.device)
        self.matrix = matrix

    def measure(self, x: Tensor) -> Tensor:
        """``x Phi^T``."""
        return x @ self.matrix.T

    def adjoint(self, y: Tensor) -> Tensor:
        """``y Phi``."""
        return y @ self.matrix

    def normal(self, x: Tensor) -> Tensor:
        """``x Phi^T Phi``, through the cheaper of the Gram and the two factors."""
        return x @ self._gram if 2 * self.measurements > self.columns else super().normal(x)

    @cached_property
    def _gram(self) -> Tensor:
        return self.matrix.T @ self.matrix

    def gram(self) -> Tensor:
        """``Phi^T Phi``."""
        return self._gram


class Gram(Operator):
    """A map known by its Gram alone, such as the second moment ``E[x x^T]`` of a layer's inputs.

    A measurement is then the layer's real response: ``||w Phi^T||^2 = E[(w x)^2]``.

    Args:
        matrix: symmetric positive semi-definite, shape (n, n).
        damping: added to the diagonal, as a share of its mean; keeps inputs that were never active recoverable.
    """

    def __init__(self, matrix: Tensor, damping: float = 0.0) -> None:
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"a Gram is a square matrix, got shape {tuple(matrix.shape)}")
        super().__init__(matrix.shape[0], matrix.shape[0], matrix.device)
        level = damping * matrix.diagonal().mean()
        self.matrix = matrix + level * torch.eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device)

    @cached_property
    def _root(self) -> Tensor:
        values, vectors = torch.linalg.eigh(self.matrix.double())
        return ((vectors * values.clamp_min(0).sqrt()) @ vectors.T).to(self.matrix.dtype)

    def measure(self, x: Tensor) -> Tensor:
        """``x`` times the symmetric square root of the Gram."""
        return x @ self._root

    def adjoint(self, y: Tensor) -> Tensor:
        """``y`` times the symmetric square root of the Gram."""
        return y @ self._root

    def normal(self, x: Tensor) -> Tensor:
        """``x`` times the Gram: needs no square root."""
        return x @ self.matrix

    def gram(self) -> Tensor:
        """The damped Gram."""
        return self.matrix


def gaussian(columns: int, measurements: int, generator: torch.Generator) -> Tensor:
    """Independent normal entries of variance 1/q, shape (q, n), on the CPU."""
    return torch.randn(measurements, columns, generator=generator) / math.sqrt(measurements)


def rademacher(columns: int, measurements: int, generator: torch.Generator) -> Tensor:
    """Random signs over sqrt(q), shape (q, n), on the CPU."""
    signs = torch.randint(0, 2, (measurements, columns), generator=generator)
    return (2.0 * signs - 1) / math.sqrt(measurements)


def dct(columns: int, measurements: int, generator: torch.Generator) -> Tensor:
    """A random choice of q rows of the orthonormal DCT-II, scaled by sqrt(n/q), shape (q, n), on the CPU."""
    if measurements > columns:
        raise ValueError(f"a DCT of {columns} columns has no {measurements} rows to choose from")
    chosen = torch.randperm(columns, generator=generator)[:measurements].sort().values.double()
    places = torch.arange(columns, dtype=torch.float64) + 0.5
    rows = torch.cos(torch.outer(chosen, places) * math.pi / columns) * math.sqrt(2 / columns)
    rows[chosen == 0] /= math.sqrt(2)
    return (rows * math.sqrt(columns / measurements)).float()


ENSEMBLES: dict[str, Callable[[int, int, torch.Generator], Tensor]] = {
    "gaussian": gaussian,
    "rademacher": rademacher,
    "dct": dct,
}


def random_operator(
    ensemble: str, columns: int, ratio: float, seed: int, device: torch.device | str | None = None
) -> Dense:
    """Draw an operator of a random ensemble; the same seed gives the same operator on every device.

    Args:
        ensemble: a key of `ENSEMBLES`.
        columns: length n of a signal.
        ratio: measurements per column, in (0, 1]; q = ceil(ratio * n).
        seed: of the draw.
        device: where the operator will be applied.
    """
    if ensemble not in ENSEMBLES:
        raise ValueError(f"unknown ensemble '{ensemble}' (known: {', '.join(ENSEMBLES)})")
    if not 0 < ratio <= 1:
        raise ValueError(f"measurement ratio must be in (0, 1], got {ratio}")
    generator = torch.Generator().manual_seed(seed)
    return Dense(ENSEMBLES[ensemble](columns, math.ceil(ratio * columns), generator).to(device or "cpu"))
