"""Packed weights: bit-exact round trip and an exact byte count."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from cspbench.asr.model import Shape, Transducer, prunable_weights
from cspbench.runtime.packing import COLUMNS, ROWS, VALUES, dense_bytes, from_csr, pack, packed_bytes, to_csr, unpack


def pruned(sparsity: float) -> Transducer:
    torch.manual_seed(0)
    model = Transducer(Shape(24, 7, 2, 32, 1, 24, 20), mels=8).eval()
    with torch.no_grad():
        for weight in prunable_weights(model).values():
            weight *= torch.rand_like(weight) >= sparsity
    return model


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 999))
def test_any_matrix_survives_csr(rows: int, columns: int, density: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    weight *= torch.rand(rows, columns, generator=generator) < density
    assert torch.equal(from_csr(to_csr(weight), columns), weight)


def test_wide_matrices_get_wide_columns() -> None:
    assert to_csr(torch.eye(2, 30_000))[COLUMNS].dtype == torch.int16
    assert to_csr(torch.eye(2, 40_000))[COLUMNS].dtype == torch.int32


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 1.0])
def test_a_packed_model_survives_serialisation_bit_for_bit(sparsity: float) -> None:
    model = pruned(sparsity)
    copy = pruned(0.3)
    unpack(load(save(pack(model))), copy)
    for name, tensor in model.recogniser_state().items():
        assert torch.equal(copy.state_dict()[name], tensor), name


def test_size_is_what_the_format_says() -> None:
    model = pruned(0.8)
    payload = 0
    for name, tensor in model.recogniser_state().items():
        if name in prunable_weights(model):
            kept = int((tensor != 0).sum())
            payload += min(tensor.numel() * 4, kept * (4 + 2) + (tensor.shape[0] + 1) * 4)
        else:
            payload += tensor.numel() * 4
    tensors = pack(model)
    assert sum(t.nbytes for t in tensors.values()) == payload
    assert payload < packed_bytes(model) < payload + 200 * len(tensors)
    assert len(save(tensors)) == packed_bytes(model)


def test_dense_matrices_are_not_blown_up() -> None:
    model = pruned(0.0)
    assert packed_bytes(model) == dense_bytes(model)
    assert not any(name.endswith((ROWS, COLUMNS, VALUES)) for name in pack(model))


def test_more_zeros_are_fewer_bytes() -> None:
    sizes = [packed_bytes(pruned(s)) for s in (0.0, 0.5, 0.75, 0.9, 0.95)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[3] < 0.35 * sizes[0]
