"""Bitmaps of four lanes: groups of rows whose words and values alternate, and the same products as of single rows."""

from __future__ import annotations

import numpy as np
import pytest
from support.native_matrices import VALUES, every_instruction_set, inputs, sparse

native = pytest.importorskip("cspbench.runtime._native", reason="NATIVE MODULE ABSENT: no compiler when installing")

SHAPES = [(4, 64), (1, 300), (7, 65), (37, 211), (64, 1100)]


def packed(weights, values="fp32", **options):
    return native.Matrix.pack(weights, "bitmap", values, **options)


def test_words_and_values_of_four_rows_alternate():
    weights = np.zeros((5, 70), np.float32)
    weights[0, [1, 65]] = 1, 2
    weights[2, [0, 3]] = 3, 4
    weights[4, 69] = 5
    matrix = packed(weights, lanes=4)
    arrays = matrix.arrays()
    assert matrix.options == {"lanes": 4}
    assert arrays["bits"].tolist() == [[[2, 0, 9, 0], [2, 0, 0, 0]], [[0, 0, 0, 0], [32, 0, 0, 0]]]
    assert arrays["values"].tolist() == [1, 3, 4, 2, 5]
    assert arrays["starts"].tolist() == [0, 4, 5]


def test_one_lane_is_what_files_without_the_option_hold():
    assert packed(sparse(9, 100, 0.3, 0), lanes=1).options == {}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("values", VALUES)
def test_four_lanes_hold_the_same_matrix(shape, values):
    weights = sparse(*shape, 0.3, 1)
    one, four = packed(weights, values), packed(weights, values, lanes=4)
    assert np.array_equal(four.dense(), one.dense())
    assert four.nonzeros == one.nonzeros
    for batch in (1, 5):
        x = inputs(batch, shape[1], 2)
        for _ in every_instruction_set():
            if values == "int8":
                assert np.array_equal(four.multiply(x), one.multiply(x))
            else:
                error = np.abs(four.multiply(x) - x.astype(float) @ four.dense().T)
                assert np.all(error <= 1e-6 * (np.abs(x) @ np.abs(four.dense()).T))


def test_threads_give_the_same_bits():
    matrix = packed(sparse(37, 211, 0.3, 3), "int8", lanes=4)
    x = inputs(2, 211, 4)
    for _ in every_instruction_set():
        assert np.array_equal(matrix.multiply(x, threads=3), matrix.multiply(x))


def test_other_numbers_of_lanes_are_refused():
    for lanes in (0, 2, 8):
        with pytest.raises(ValueError, match="1 or 4 lanes"):
            packed(sparse(9, 100, 0.3, 0), lanes=lanes)


@pytest.mark.parametrize(
    ("words", "word", "lane", "bit"),
    [
        ("a bit is set beyond the last row", 0, 3, 0),
        ("a bit is set beyond the last column", 1, 1, 36),
        ("bits and starts disagree", 0, 1, 0),
    ],
)
def test_wrong_bits_are_refused(words, word, lane, bit):
    weights = np.ones((3, 100), np.float32)
    matrix = packed(weights, lanes=4)
    arrays = matrix.arrays()
    bits = arrays["bits"].copy()
    bits[0, word, lane] ^= np.uint64(1 << bit)
    with pytest.raises(ValueError, match=words):
        native.Matrix.from_arrays("bitmap", "fp32", 3, 100, arrays | {"bits": bits}, matrix.options)
