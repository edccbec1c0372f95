"""The window format is what window.hpp says, wastes little, and refuses arrays that would lead a kernel astray."""

from __future__ import annotations

import numpy as np
import pytest
from support.native_matrices import VALUES, every_instruction_set, inputs, scaled_product, sparse

native = pytest.importorskip("cspbench.runtime._native", reason="NATIVE MODULE ABSENT: no compiler when installing")

SLOTS = 4


def packed(weights, values="fp32", **options):
    return native.Matrix.pack(weights, "window", values, **options)


def read(arrays, rows, columns):
    """The dense matrix of fp32 arrays, read slot by slot."""
    dense, lanes = np.zeros((rows, columns), np.float32), arrays["values"].shape[1]
    for group, (first, last) in enumerate(zip(arrays["starts"], arrays["starts"][1:], strict=False)):
        base = 0
        for step in range(first, last):
            base += int(arrays["advance"][step])
            for lane, slot in np.argwhere(arrays["values"][step] != 0):
                row = arrays["order"][group * lanes + lane]
                dense[row, base + int(arrays["slots"][step, lane, slot])] = arrays["values"][step, lane, slot]
    return dense


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("window", [64, 128, 256])
@pytest.mark.parametrize("shape", [(8, 65), (1, 300), (37, 211), (64, 1000)])
def test_every_width_holds_the_same_matrix(shape, window, lanes):
    weights = sparse(*shape, 0.15, 1)
    matrix = packed(weights, window=window, lanes=lanes)
    arrays = matrix.arrays()
    assert arrays["slots"].max(initial=0) < window
    assert arrays["slots"].shape == arrays["values"].shape == (len(arrays["advance"]), lanes, SLOTS)
    assert np.array_equal(read(arrays, *shape), weights)
    assert np.array_equal(matrix.dense(), weights)
    x = inputs(5, shape[1], 2)
    for _ in every_instruction_set():
        error = np.abs(matrix.multiply(x) - x.astype(float) @ weights.T)
        assert np.all(error <= 1e-6 * (np.abs(x) @ np.abs(weights).T))


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("window", [64, 128, 256])
def test_int8_gives_the_same_bits_at_every_width(window, lanes):
    weights = sparse(50, 500, 0.2, 3)
    x = inputs(5, 500, 4)
    dense = native.Matrix.pack(weights, "dense", "int8").multiply(x)
    for _ in every_instruction_set():
        assert np.array_equal(packed(weights, "int8", window=window, lanes=lanes).multiply(x), dense)


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("window", [64, 128, 256])
@pytest.mark.parametrize("shape", [(8, 65), (1, 300), (37, 211), (64, 1000)])
def test_int4_is_exact_at_every_width(shape, window, lanes):
    matrix = packed(sparse(*shape, 0.15, 1), "int4", window=window, lanes=lanes)
    x = inputs(5, shape[1], 2)
    for name in every_instruction_set():
        assert np.array_equal(matrix.multiply(x), scaled_product(matrix, x)), name


def test_int4_lie_two_in_a_byte_the_first_in_its_lower_half():
    weights = np.zeros((3, 9), np.float32)
    weights[1, :4] = 7, -3, 1.4, -7  # of a row whose largest is 7: a scale of 1
    arrays = packed(weights, "int4").arrays()
    assert arrays["order"][0] == 1
    assert arrays["values"].shape == (1, 8, SLOTS // 2)
    assert arrays["values"].dtype == np.uint8
    assert arrays["values"][0, 0].tolist() == [0xD7, 0x91]
    assert arrays["scales"].tolist() == [0, 1, 0]
    assert not arrays["values"][0, 1:].any()


def test_int4_of_other_formats_and_minus_eight_are_refused():
    for form in ("dense", "bitmap", "csr16", "csr8", "block", "nm"):
        with pytest.raises(ValueError, match=f"for the format window, not for {form}"):
            native.Matrix.pack(np.ones((2, 4), np.float32), form, "int4")
    matrix = packed(np.ones((1, 4), np.float32), "int4")
    arrays = {name: np.array(array) for name, array in matrix.arrays().items()}
    arrays["values"][0, 0, 0] = 0x87
    with pytest.raises(ValueError, match="int4 value is -8"):
        native.Matrix.from_arrays("window", "int4", 1, 4, arrays, matrix.options)


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("values", [*VALUES, "int4"])
def test_weights_far_apart(values, lanes):
    """The base cannot reach the second one in a single advance of 255."""
    weights = np.zeros((3, 5000), np.float32)
    weights[0, 0] = weights[0, -1] = weights[2, 4321] = 1
    matrix = packed(weights, values, lanes=lanes)
    assert np.allclose(matrix.dense(), weights)
    x = inputs(1, 5000, 5)
    for _ in every_instruction_set():
        assert np.allclose(matrix.multiply(x), x @ weights.T, atol=0.05)


@pytest.mark.parametrize(
    ("values", "options", "most"),
    [
        ("fp32", {"window": 256}, 1.06),
        ("int8", {"window": 128}, 1.12),
        ("bf16", {}, 1.12),
        ("int8", {}, 1.12),
        ("fp32", {"window": 128, "lanes": 16}, 1.15),
        ("int8", {"window": 128, "lanes": 16}, 1.2),
        ("int4", {"window": 128, "lanes": 16}, 1.2),
    ],
)
def test_few_slots_stay_empty(values, options, most):
    rng = np.random.default_rng(6)
    matrix = packed(np.where(rng.random((512, 1024)) < 0.1, 1, 0).astype(np.float32), values, **options)
    assert matrix.stored <= most * matrix.nonzeros


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize(("density", "window"), [(0.5, 64), (0.25, 64), (0.05, 128)])
def test_the_window_is_as_narrow_as_padding_allows(values, density, window):
    rng = np.random.default_rng(8)
    matrix = packed(np.where(rng.random((64, 512)) < density, 1, 0).astype(np.float32), values)
    assert matrix.options == {"window": window}
    assert matrix.arrays()["slots"].max() < window


def test_arrays_of_files_that_do_not_tell_their_window_are_read():
    """Before the encoder chose the width of floats, files held no option and windows of up to 256 columns."""
    weights = np.where(np.random.default_rng(9).random((11, 600)) < 0.02, 1, 0).astype(np.float32)
    arrays = packed(weights, window=256).arrays()
    assert arrays["slots"].max() >= 128
    assert np.array_equal(native.Matrix.from_arrays("window", "fp32", 11, 600, arrays).dense(), weights)


@pytest.mark.parametrize("lanes", [0, 4, 12, 32])
def test_other_numbers_of_lanes_are_refused(lanes):
    with pytest.raises(ValueError, match="8 or 16 lanes"):
        packed(np.ones((2, 300), np.float32), lanes=lanes)


def test_arrays_of_other_lanes_are_refused():
    arrays = packed(np.ones((20, 300), np.float32), lanes=16).arrays()
    with pytest.raises(ValueError, match="must be uint8"):
        native.Matrix.from_arrays("window", "fp32", 20, 300, arrays, {"window": 64})


@pytest.mark.parametrize("window", [0, 63, 512])
def test_other_widths_are_refused(window):
    with pytest.raises(ValueError, match="64, 128 or 256"):
        packed(np.ones((2, 300), np.float32), window=window)


def test_a_window_wider_than_what_follows_an_input_is_refused():
    with pytest.raises(ValueError, match="more than 64"):
        packed(np.ones((2, 64), np.float32), window=256)
    assert np.array_equal(packed(np.ones((2, 64), np.float32)).dense(), np.ones((2, 64)))


def spoil(name, at, value):
    def change(arrays):
        arrays[name][at] = value

    return change


def swap_columns(arrays):
    arrays["slots"][0, 0, :2] = arrays["slots"][0, 0, 1::-1]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (spoil("slots", (0, 0, 0), 130), "outside the window"),
        (spoil("advance", -1, 255), "beyond the matrix|outside the window"),
        (spoil("order", 0, 11), "every row once"),
        (lambda arrays: arrays["order"].fill(1), "every row once"),
        (spoil("starts", 1, 60000), "starts"),
        (spoil("values", (-1, 7, 0), 1), "lane without a row|ascend"),
        (swap_columns, "ascend"),
    ],
)
def test_what_leads_astray_is_refused(change, complaint):
    weights = np.where(np.random.default_rng(7).random((11, 300)) < 0.3, 1, 0).astype(np.float32)
    matrix = packed(weights, window=128)
    arrays = {name: np.array(array) for name, array in matrix.arrays().items()}
    change(arrays)
    with pytest.raises(ValueError, match=complaint):
        native.Matrix.from_arrays("window", "fp32", 11, 300, arrays, {"window": 128})
