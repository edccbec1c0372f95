"""``y = W x + b`` for one vector, with W in one of torch's layouts: dense, CSR, or 2:4 semi-structured."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import Tensor, nn
from torch.sparse import SparseSemiStructuredTensor, to_sparse_semi_structured

from cspbench.errors import CspbenchError

Layout = Literal["dense", "csr", "2:4"]

SMALLEST_BATCH = 8
"""Columns that the 2:4 product takes at least: all but the first are zero here."""


class Affine:
    """An affine map of one vector (C,) to (R,), without gradients.

    Args:
        weight: (R, C); copied, as fp32.
        bias: (R,); None for none.
        layout: ``dense`` keeps every weight. ``csr`` stores no zeros. ``2:4`` keeps the two largest of every four
            adjacent weights, in half precision; on CUDA tensor cores skip the others.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, layout: Layout = "dense") -> None:
        weight = weight.detach().cpu().float().contiguous()
        self.layout = layout
        self.weight = to_csr(weight) if layout == "csr" else two_of_four(weight).half() if layout == "2:4" else weight
        self.bias = torch.zeros(len(weight)) if bias is None else bias.detach().cpu().float().clone()
        self._inputs = torch.zeros(SMALLEST_BATCH if layout == "2:4" else 0, weight.shape[1], dtype=torch.half)

    def to(self, device: torch.device | str) -> Affine:
        """Move the weights to a device; return the map itself.

        Raises:
            CspbenchError: a 2:4 matrix of a shape that the CUDA device does not take.
        """
        self.weight, self.bias = self.weight.to(device), self.bias.to(device)
        self._inputs = self._inputs.to(device)
        if self.layout == "2:4" and self.weight.is_cuda and not isinstance(self.weight, SparseSemiStructuredTensor):
            try:
                self.weight = to_sparse_semi_structured(self.weight)
            except (RuntimeError, ValueError) as error:
                shape = tuple(self.weight.shape)
                raise CspbenchError(f"a matrix {shape} cannot be 2:4 on this device: {error}") from error
        return self

    def __call__(self, x: Tensor) -> Tensor:
        if self.layout != "2:4":
            return torch.addmv(self.bias, self.weight, x)
        self._inputs[0] = x
        return nn.functional.linear(self._inputs, self.weight)[0].float() + self.bias

    @property
    def bytes(self) -> int:
        """Bytes of the weights, their indices and the bias."""
        return tensor_bytes(self.weight) + tensor_bytes(self.bias)


def to_csr(weight: Tensor) -> Tensor:
    """A matrix in torch's CSR layout with 32-bit indices, on which its kernels are about twice as fast."""
    with warnings.catch_warnings():
        # torch calls its CSR layout beta, once a process; the layout is checked here and the outputs in our tests.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        csr = weight.to_sparse_csr()
        return torch.sparse_csr_tensor(
            csr.crow_indices().int(), csr.col_indices().int(), csr.values(), csr.shape, check_invariants=True
        )


def two_of_four(weight: Tensor) -> Tensor:
    """Zero the two smallest of every four adjacent weights of a row (R, C), of equal ones the later; C % 4 == 0."""
    groups = weight.unflatten(1, (-1, 4))
    order = groups.abs().argsort(dim=-1, descending=True, stable=True)
    keep = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order[..., :2], True)
    return torch.where(keep, groups, 0).flatten(1)


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor in any of the layouts, indices included."""
    if isinstance(tensor, SparseSemiStructuredTensor):
        cells = tensor.shape[0] * tensor.shape[1]
        return cells // 2 * tensor.element_size() + cells // 8  # half of the values, and two bits for the place of each
    if tensor.layout is torch.sparse_csr:
        return sum(map(tensor_bytes, (tensor.crow_indices(), tensor.col_indices(), tensor.values())))
    return tensor.numel() * tensor.element_size()
