"""Products of packed matrices are what numpy gives, in every format, type of values and instruction set."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.native_matrices import (
    BLOCKS,
    FORMATS,
    GROUPS,
    KINDS,
    SCALED,
    VALUES,
    every_instruction_set,
    inputs,
    nm_sparse,
    scaled_product,
    sparse,
)

native = pytest.importorskip("cspbench.runtime._native", reason="NATIVE MODULE ABSENT: no compiler when installing")

SIZES = st.one_of(st.integers(1, 200), st.sampled_from([63, 64, 65, 127, 128, 129, 192, 256, 257, 320]))
SPARSE = {
    "rows": st.one_of(st.integers(1, 70), st.integers(1, 200)),
    "columns": SIZES,
    "density": st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1), st.floats(0, 0.2)),
    "seed": st.integers(0, 2**32 - 1),
}


def assert_product(matrix, x):
    """fp32 sums come in any order: as far from the exact one as rounding each product and sum can take them."""
    weights = matrix.dense().astype(np.float64)
    exact = x.astype(np.float64) @ weights.T
    bound = 1e-5 * (np.abs(x).astype(np.float64) @ np.abs(weights).T) + 1e-30
    for name in every_instruction_set():
        y = matrix.multiply(x)
        assert (y.dtype, y.shape) == (np.float32, (len(x), matrix.rows))
        if matrix.values in SCALED:
            assert np.array_equal(y, scaled_product(matrix, x)), name
        else:
            assert (np.abs(y - exact) <= bound).all(), name


@pytest.mark.parametrize(("form", "values"), KINDS)
@given(**SPARSE, batch=st.sampled_from([1, 1, 2, 3, 4, 5, 8, 9, 17]))
@settings(max_examples=25)
def test_product(form, values, rows, columns, density, seed, batch):
    matrix = native.Matrix.pack(sparse(rows, columns, density, seed), form, values, **FORMATS[form])
    assert_product(matrix, inputs(batch, columns, seed))


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("block", BLOCKS)
@given(**SPARSE, batch=st.sampled_from([1, 2, 5]))
@settings(max_examples=10)
def test_product_of_blocks(block, values, rows, columns, density, seed, batch):
    height, width = block
    kept = np.random.default_rng(seed).random((rows, columns)) < density
    kept = kept[::height, ::width].repeat(height, 0).repeat(width, 1)[:rows, :columns]
    weights = sparse(rows, columns, 0.9, seed) * kept
    matrix = native.Matrix.pack(weights, "block", values, block=block)
    assert_product(matrix, inputs(batch, columns, seed))


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("nm", GROUPS)
@given(rows=SPARSE["rows"], columns=SIZES, seed=SPARSE["seed"], batch=st.sampled_from([1, 2, 5]))
@settings(max_examples=10)
def test_product_of_n_of_m(nm, values, rows, columns, seed, batch):
    weights = nm_sparse(rows, columns, *nm, seed)
    matrix = native.Matrix.pack(weights, "nm", values, nm=nm)
    assert_product(matrix, inputs(batch, columns, seed))


@pytest.mark.parametrize("form", FORMATS)
def test_one_vector_gives_one_row(form):
    matrix = native.Matrix.pack(sparse(9, 77, 0.5, 1), form, "int8", **FORMATS[form])
    x = inputs(3, 77, 1)
    assert np.array_equal([matrix.multiply(vector) for vector in x], matrix.multiply(x))


@pytest.mark.parametrize(("form", "values"), [kind for kind in KINDS if kind[1] in SCALED])
@pytest.mark.parametrize("columns", [2048, 3000])
def test_integers_give_the_same_bits_everywhere_even_at_their_limits(form, values, columns):
    """All weights and inputs as large as int8 or int4 has them: intermediate sums must not saturate."""
    rng = np.random.default_rng(0)
    weights = np.where(rng.random((20, columns)) < 0.7, rng.choice([-1.0, 1.0], (20, columns)), 0).astype(np.float32)
    weights[3] = 1
    matrix = native.Matrix.pack(weights, form, values, **FORMATS[form])
    x = np.stack([np.ones(columns), -np.ones(columns), rng.choice([-1, 1], columns)]).astype(np.float32)
    assert_product(matrix, x)


@pytest.mark.parametrize("form", FORMATS)
@given(**SPARSE)
@settings(max_examples=15)
def test_weights_come_back_rounded_as_they_should(form, rows, columns, density, seed):
    weights = sparse(rows, columns, density, seed)
    weights[weights == 0] *= -1
    expected = {
        "fp32": weights + 0,
        "fp16": weights.astype(np.float16).astype(np.float32) + 0,
        "bf16": torch.from_numpy(weights).bfloat16().float().numpy() + 0,
    }
    for values, most in SCALED.items():
        scales = np.abs(weights).max(1, keepdims=True) / np.float32(most)
        with np.errstate(invalid="ignore"):
            expected[values] = np.where(scales > 0, np.rint(weights / scales) * scales, 0).astype(np.float32) + 0
    for values, rounded in expected.items():
        if (form, values) not in KINDS:
            continue
        matrix = native.Matrix.pack(weights, form, values, **FORMATS[form])
        assert matrix.dense().tobytes() == rounded.tobytes()  # -0 has become 0 everywhere
        assert matrix.nonzeros == np.count_nonzero(rounded)
        assert matrix.stored >= matrix.nonzeros
        assert matrix.bytes == sum(array.nbytes for array in matrix.arrays().values())


@pytest.mark.parametrize("values", ["fp16", "bf16"])
def test_every_half_precision_number_is_read_as_what_it_is(values):
    bits = np.arange(2**16, dtype=np.uint16)
    halves = torch.from_numpy(bits.view(np.int16)).view(torch.float16 if values == "fp16" else torch.bfloat16).float()
    finite = halves[halves.isfinite()].numpy()
    matrix = native.Matrix.pack(finite[:, None], "dense", values)
    assert np.array_equal(matrix.dense()[:, 0], finite)
    for name in every_instruction_set():
        assert np.array_equal(matrix.multiply(np.ones(1, np.float32)), finite), name


@pytest.mark.parametrize(("form", "values"), KINDS)
def test_rows_without_weights_give_zero_even_if_all_are(form, values):
    matrix = native.Matrix.pack(np.zeros((5, 70), np.float32), form, values, **FORMATS[form])
    for name in every_instruction_set():
        assert np.array_equal(matrix.multiply(np.ones((2, 70), np.float32)), np.zeros((2, 5))), name
    assert matrix.nonzeros == 0


@pytest.mark.parametrize(("form", "values"), [kind for kind in KINDS if kind[1] in SCALED])
def test_what_is_not_finite_is_seen_in_integers(form, values):
    """An input that int8 cannot express makes every result NaN, rather than a plausible number."""
    matrix = native.Matrix.pack(np.eye(4, 70, dtype=np.float32), form, values, **FORMATS[form])
    for name in every_instruction_set():
        for bad in (np.nan, np.inf, -np.inf):
            x = np.ones(70, np.float32)
            x[50] = bad
            assert np.isnan(matrix.multiply(x)).all(), name
        for small in (0, 1e-38):
            assert np.array_equal(matrix.multiply(np.full(70, small, np.float32)), np.zeros(4)), name


@pytest.mark.parametrize(("form", "values"), KINDS)
def test_a_large_matrix(form, values):
    """Larger than a huge page, and with rows long enough for every unrolled loop."""
    weights = sparse(700, 1664, 0.3, 5)
    assert_product(native.Matrix.pack(weights, form, values, **FORMATS[form]), inputs(2, 1664, 5))
