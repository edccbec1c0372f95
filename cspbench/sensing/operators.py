"""Sensing operators: linear maps from weight rows of length n to q measurements.

A signal is a row; matrices are batches of rows, so ``measure`` maps (..., n) to (..., q). The random ensembles are in
`cspbench.sensing.ensembles`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from torch import Tensor

_POWER_STEPS = 100
_POWER_STARTS = 8
_POWER_MARGIN = 1.05


class Operator(ABC):
    """A linear map ``Phi`` of shape (measurements, columns), applied to rows.

    Only `measure` and `adjoint` are needed; an operator that knows more about itself says so by overriding the rest.

    Attributes:
        columns: length n of a signal.
        measurements: length q of its measurement.
        device: where it is applied.
        has_gram: whether `gram` costs nothing, as it is kept.
    """

    has_gram = False

    def __init__(self, columns: int, measurements: int, device: torch.device | str | None = None) -> None:
        if columns < 1 or measurements < 1:
            raise ValueError(f"an operator needs columns and measurements >= 1, got {columns} and {measurements}")
        self.columns = columns
        self.measurements = measurements
        self.device = torch.device(device or "cpu")
        self._inverses: dict[tuple[float, torch.dtype], Tensor] = {}

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

    def resolvent(self, x: Tensor, shift: float) -> Tensor:
        """``x (Phi^T Phi + shift I)^-1``: (..., n) to (..., n), for shift > 0.

        The inverse is kept for the next call with the same shift.
        """
        key = (shift, x.dtype)
        if key not in self._inverses:
            shifted = self.gram().to(torch.float64, copy=True)
            shifted.diagonal().add_(shift)
            self._inverses[key] = torch.cholesky_inverse(torch.linalg.cholesky(shifted)).to(x.dtype)
        return x @ self._inverses[key]

    @cached_property
    def lipschitz(self) -> float:
        """Upper bound on the largest eigenvalue of the Gram: steps of 1/lipschitz never increase the misfit.

        Found by the power method, which approaches the eigenvalue from below: 100 steps of the best of 8 random starts,
        and a margin of 5 %. Operators that hold a matrix override this by the exact value.
        """
        starts = torch.randn(_POWER_STARTS, self.columns, generator=torch.Generator().manual_seed(0)).to(self.device)
        largest = 0.0
        for _ in range(_POWER_STEPS):
            image = self.normal(starts / starts.norm(dim=1, keepdim=True).clamp_min(torch.finfo(starts.dtype).tiny))
            largest, starts = float(image.norm(dim=1).max()), image
        return max(largest * _POWER_MARGIN, torch.finfo(torch.float32).tiny)

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

    def resolvent(self, x: Tensor, shift: float) -> Tensor:
        """``x / (1 + shift)``."""
        return x / (1 + shift)

    @cached_property
    def lipschitz(self) -> float:
        """One."""
        return 1.0

    @cached_property
    def mean_curvature(self) -> float:
        """One."""
        return 1.0


class Dense(Operator):
    """Any explicit matrix ``Phi`` of shape (q, n)."""

    def __init__(self, matrix: Tensor) -> None:
        if matrix.ndim != 2:
            raise ValueError(f"a sensing matrix has shape (measurements, columns), got {tuple(matrix.shape)}")
        super().__init__(matrix.shape[1], matrix.shape[0], matrix.device)
        self.matrix = matrix
        self.has_gram = 2 * self.measurements >= self.columns

    def measure(self, x: Tensor) -> Tensor:
        """``x Phi^T``."""
        return x @ self.matrix.T

    def adjoint(self, y: Tensor) -> Tensor:
        """``y Phi``."""
        return y @ self.matrix

    def normal(self, x: Tensor) -> Tensor:
        """``x Phi^T Phi``, through the cheaper of the Gram and the two factors."""
        return x @ self._gram if self.has_gram else super().normal(x)

    @cached_property
    def _gram(self) -> Tensor:
        return self.matrix.T @ self.matrix

    def gram(self) -> Tensor:
        """``Phi^T Phi``."""
        return self._gram

    @cached_property
    def lipschitz(self) -> float:
        """Largest eigenvalue of the Gram, from the smaller of ``Phi^T Phi`` and ``Phi Phi^T``."""
        matrix = self.matrix.double()
        return _largest_eigenvalue(matrix @ matrix.T if self.measurements < self.columns else matrix.T @ matrix)


class Gram(Operator):
    """A map known by its Gram alone, such as the second moment ``E[x x^T]`` of a layer's inputs.

    A measurement is then the layer's real response: ``||w Phi^T||^2 = E[(w x)^2]``.

    Args:
        matrix: symmetric positive semi-definite, shape (n, n).
        damping: added to the diagonal, as a fraction of its mean; keeps inputs that were never active recoverable.

    Attributes:
        level: what the damping added, shape ().
    """

    has_gram = True

    def __init__(self, matrix: Tensor, damping: float = 0.0) -> None:
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"a Gram is a square matrix, got shape {tuple(matrix.shape)}")
        super().__init__(matrix.shape[0], matrix.shape[0], matrix.device)
        self.level = damping * matrix.diagonal().mean()
        self.matrix = matrix + self.level * torch.eye(matrix.shape[0], dtype=matrix.dtype, device=matrix.device)

    @classmethod
    def of_inputs(cls, inputs: Tensor, damping: float = 0.0) -> Gram:
        """The second moment of activations, shape (samples, n), in 64-bit sums."""
        if inputs.ndim != 2 or not len(inputs):
            raise ValueError(f"activations have shape (samples, columns), samples >= 1, got {tuple(inputs.shape)}")
        wide = inputs.double()
        return cls((wide.T @ wide / len(wide)).to(inputs.dtype), damping)

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

    @cached_property
    def lipschitz(self) -> float:
        """Largest eigenvalue of the Gram."""
        return _largest_eigenvalue(self.matrix.double())


def _largest_eigenvalue(matrix: Tensor) -> float:
    largest = float(torch.linalg.eigvalsh(matrix)[-1])
    return max(largest * (1 + 1e-6), torch.finfo(torch.float32).tiny)
