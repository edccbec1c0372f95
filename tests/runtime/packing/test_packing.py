"""Packed matrices: every format brings every weight back, and weighs exactly what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cspbench.runtime import extension
from cspbench.runtime.packing import FORMATS, PackedMatrix, PackingError, information_bound, pack_matrix, parse_format
from cspbench.runtime.packing.encode import IN_NUMPY
from cspbench.runtime.packing.values import SCALED, clean, restore, round_to

LABELS = ["dense", "bitmap", "bitmap:4", "csr16", "csr8", "window", "window:64x16"]
LABELS += ["block:4x4", "block:1x8", "nm:4:4", "nm:16:16"]
VALUES = ["fp32", "fp16", "bf16", "int8"]
KINDS = [*((label, values) for label in LABELS for values in VALUES), ("window", "int4"), ("window:64x16", "int4")]
HERE = [label for label in LABELS if extension.available() or label in IN_NUMPY]
needs_native = pytest.mark.skipif(not extension.available(), reason="the native module was not built here")


def random_matrix(rows: int, columns: int, density: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kept = rng.random((rows, columns)) < density
    return np.where(kept, rng.standard_normal((rows, columns)), 0).astype(np.float32)


matrices = st.builds(
    random_matrix,
    rows=st.one_of(st.integers(1, 20), st.sampled_from([63, 64, 65])),
    columns=st.one_of(st.integers(1, 80), st.sampled_from([127, 128, 256, 257, 600])),
    density=st.sampled_from([0.0, 0.002, 0.05, 0.3, 0.7, 1.0]),
    seed=st.integers(0, 9999),
)


def bits(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x, np.float32).view(np.uint32)


@pytest.mark.parametrize("label", HERE)
@settings(max_examples=60)
@given(weight=matrices)
def test_fp32_comes_back_bit_for_bit(label: str, weight: np.ndarray) -> None:
    packed = pack_matrix(weight, label)
    packed.check()
    assert np.array_equal(bits(packed.dense()), bits(weight))
    assert packed.nonzeros == np.count_nonzero(weight)
    assert packed.bytes == sum(a.nbytes for a in packed.arrays.values()) >= packed.bound_bytes


@pytest.mark.parametrize("label", HERE)
@settings(max_examples=60)
@given(weights=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=6, max_size=6))
def test_every_finite_number_comes_back_and_a_negative_zero_as_zero(label: str, weights: list[float]) -> None:
    weight = np.array(weights, np.float32).reshape(2, 3)  # denormals and the largest among them
    expected = np.where(weight == 0, np.float32(0), weight)
    assert np.array_equal(bits(pack_matrix(weight, label).dense()), bits(expected))


@pytest.mark.parametrize("label", HERE)
def test_negative_zeros_are_zeros(label: str) -> None:
    weight = random_matrix(16, 64, 1.0) * (np.arange(64) % 4 == 0)  # pruned by a mask: -0.0 of what was negative
    assert (np.signbit(weight) & (weight == 0)).any()
    packed = pack_matrix(weight, label)
    assert packed.nonzeros == 16 * 16
    assert not (np.signbit(packed.dense()) & (weight == 0)).any()


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("label", HERE)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name(label: str, values: str, odd: float) -> None:
    weight = random_matrix(5, 7, 1.0)
    weight[3, 2] = odd
    with pytest.raises(PackingError, match=r"layer 5.*row 3, column 2"):
        pack_matrix(weight, label, values, name="layer 5")


@pytest.mark.parametrize(("label", "values"), [(x, v) for x, v in KINDS if x in HERE and v != "fp32"])
@settings(max_examples=25)
@given(weight=matrices)
def test_rounded_values_do_not_depend_on_the_format(label: str, values: str, weight: np.ndarray) -> None:
    packed = pack_matrix(weight, label, values)
    packed.check()
    rounded = round_to(clean(weight), values)
    expected = restore(rounded["values"], values)
    if values in SCALED:
        expected = rounded["scales"][:, None] * expected
    assert np.array_equal(bits(packed.dense()), bits(expected))
    assert packed.nonzeros == np.count_nonzero(packed.dense()) <= np.count_nonzero(weight)


@pytest.mark.parametrize(("values", "error"), [("fp16", 2**-11), ("bf16", 2**-8)])
def test_halves_are_rounded_to_nearest(values: str, error: float) -> None:
    weight = random_matrix(64, 64, 1.0)
    back = pack_matrix(weight, "dense", values).dense()
    assert (np.abs(back - weight) <= np.abs(weight) * error + 1e-7).all()


def test_int8_is_rounded_to_the_nearest_step_of_its_row() -> None:
    weight = random_matrix(64, 100, 0.5) * np.logspace(-20, 20, 64, dtype=np.float32)[:, None]
    weight[5] = 0
    packed = pack_matrix(weight, "dense", "int8")
    step = np.abs(weight).max(axis=1, keepdims=True) / 127
    assert (np.abs(packed.dense() - weight) <= step * 0.5001).all()
    assert np.abs(packed.arrays["values"]).max() == 127


@needs_native
def test_int4_is_rounded_to_the_nearest_step_of_its_row_and_takes_half_a_byte() -> None:
    weight = random_matrix(64, 100, 0.5)
    weight[5] = 0
    packed, wider = (pack_matrix(weight, "window:64x16", values) for values in ("int4", "fp32"))
    step = np.abs(weight).max(axis=1, keepdims=True) / 7
    assert (np.abs(packed.dense() - weight) <= step * 0.5001).all()
    assert packed.nonzeros < wider.nonzeros, "the smallest weights of a row become zero"
    assert packed.arrays["values"].nbytes * 2 == packed.stored == packed.arrays["slots"].size


@pytest.mark.parametrize("label", [label for label in LABELS if not label.startswith("window")])
def test_int4_is_refused_outside_windows(label: str) -> None:
    with pytest.raises(PackingError, match=r"layer 5 cannot be packed as .* with int4 values, which are for windows"):
        pack_matrix(random_matrix(16, 64, 0.4), label, "int4", name="layer 5")


def test_too_large_for_half_is_refused() -> None:
    with pytest.raises(PackingError, match="too much for fp16"):
        pack_matrix(np.full((2, 2), 7e4, np.float32), "dense", "fp16")
    with pytest.raises(PackingError, match="too much for bf16"):
        pack_matrix(np.full((2, 2), 3.4e38, np.float32), "dense", "bf16")


@pytest.mark.parametrize("values", VALUES)
def test_bytes_are_those_of_the_formula(values: str) -> None:
    weight = random_matrix(64, 300, 0.1)
    weight[weight != 0] += np.sign(weight[weight != 0])  # none rounds to zero
    kept, size = np.count_nonzero(weight), {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}[values]
    scales = 4 * 64 if values == "int8" else 0
    assert pack_matrix(weight, "dense", values).bytes == 64 * 300 * size + scales
    assert pack_matrix(weight, "bitmap", values).bytes == kept * size + 64 * 5 * 8 + 65 * 4 + scales
    assert pack_matrix(weight, "csr16", values).bytes == kept * (size + 2) + 65 * 4 + scales
    assert pack_matrix(weight, "csr8", values).bytes == kept * (size + 1) + 65 * 4 + scales


def test_long_gaps_are_bridged() -> None:
    weight = np.zeros((3, 1300), np.float32)
    weight[0, [0, 256, 513, 1299]] = 1, 2, 3, 4  # 255 skipped: fits; 256: one bridge; 785: three
    weight[2, 700] = 5
    packed = pack_matrix(weight, "csr8")
    assert packed.arrays["gaps"].tolist() == [0, 255, 255, 0, 255, 255, 255, 17, 255, 255, 188]
    assert packed.arrays["starts"].tolist() == [0, 8, 8, 11]
    assert packed.nonzeros == 5
    assert packed.stored == 11
    assert np.array_equal(packed.dense(), weight)


def test_the_bound_is_that_of_counting() -> None:
    assert information_bound(2, 5, 10, "fp32") == 40  # nothing to tell about places
    assert information_bound(2, 5, 0, "fp32") == 0
    assert information_bound(2, 5, 3, "fp32") == math.ceil((3 * 32 + math.log2(math.comb(10, 3))) / 8)
    assert information_bound(20, 50, 100, "int4") == information_bound(20, 50, 100, "int8") - 50
    assert information_bound(20, 50, 100, "int8") == math.ceil((100 * 8 + math.log2(math.comb(1000, 100))) / 8) + 80


def test_words_that_mean_nothing_are_refused() -> None:
    weight = random_matrix(4, 8, 0.5)
    with pytest.raises(PackingError, match="did you mean 'csr16'"):
        pack_matrix(weight, "csr61")
    with pytest.raises(PackingError, match="did you mean 'bf16'"):
        pack_matrix(weight, "dense", "b16")
    for label in ("block:4", "block:ax4", "nm:2", "csr16:4", "block:-1x2", "window:64x", "window:1x2x3"):
        with pytest.raises(PackingError, match="cannot be read"):
            parse_format(label)
    assert parse_format("window:64") == ("window", {"window": 64})
    assert parse_format("window:64x16") == ("window", {"window": 64, "lanes": 16})
    assert parse_format("bitmap:4") == ("bitmap", {"lanes": 4})
    for shape in ((0, 4), (4, 0), (4,)):
        with pytest.raises(PackingError, match="a matrix has rows and columns"):
            pack_matrix(np.zeros(shape, np.float32), "dense")


def test_without_the_native_module_the_plain_formats_remain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cspbench.runtime.extension.available", lambda: False)
    weight = random_matrix(9, 70, 0.3)
    for format in IN_NUMPY:
        assert np.array_equal(pack_matrix(weight, format).dense(), weight)
    for format in set(FORMATS) - set(IN_NUMPY):
        with pytest.raises(PackingError, match=r"needs the native module.*csr8"):
            pack_matrix(weight, format)
    with pytest.raises(PackingError, match=r"65536|16 bits"):
        pack_matrix(np.ones((1, 70_000), np.float32), "csr16")


@needs_native
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("format", sorted(IN_NUMPY))
@settings(max_examples=25)
@given(weight=matrices)
def test_numpy_packs_the_very_arrays_of_the_native_module(format: str, values: str, weight: np.ndarray) -> None:
    theirs = pack_matrix(weight, format, values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cspbench.runtime.extension.available", lambda: False)
        ours = pack_matrix(weight, format, values)
    assert set(ours.arrays) == set(theirs.arrays)
    for name, array in ours.arrays.items():
        assert array.dtype == theirs.arrays[name].dtype, name
        assert np.array_equal(array, theirs.arrays[name]), name


@needs_native
@pytest.mark.parametrize(("label", "values"), KINDS)
@settings(max_examples=15)
@given(weight=matrices)
def test_both_decoders_agree(label: str, values: str, weight: np.ndarray) -> None:
    packed = pack_matrix(weight, label, values)
    theirs = packed.native()
    assert np.array_equal(bits(theirs.dense()), bits(packed.dense()))
    assert (theirs.bytes, theirs.nonzeros, theirs.stored) == (packed.bytes, packed.nonzeros, packed.stored)


def damaged(packed: PackedMatrix, name: str, index: int, value: int) -> PackedMatrix:
    arrays = {key: np.array(array) for key, array in packed.arrays.items()}
    arrays[name].reshape(-1)[index] = value
    return PackedMatrix(packed.name, packed.format, packed.values, packed.rows, packed.columns, packed.options, arrays)


@needs_native
@pytest.mark.parametrize("label", LABELS)
@settings(max_examples=150)
@given(data=st.data())
def test_arrays_that_lie_are_refused_by_both_or_mean_the_same_to_both(label: str, data: st.DataObject) -> None:
    values = data.draw(st.sampled_from(["fp32", *(v for v in SCALED if (label, v) in KINDS)]))
    packed = pack_matrix(random_matrix(18, 75, 0.2), label, values)
    name = data.draw(st.sampled_from(sorted(n for n, a in packed.arrays.items() if a.size)))
    array = packed.arrays[name]
    index = data.draw(st.integers(0, array.size - 1))
    if array.dtype.kind == "f":
        value = data.draw(st.sampled_from([0.0, 1.5, np.nan, np.inf]))
    else:
        limits = np.iinfo(array.dtype)
        value = data.draw(st.one_of(st.integers(0, 100), st.integers(limits.min, limits.max)))
    lying = damaged(packed, name, index, value)
    ours = theirs = None
    try:
        ours = lying.dense()
    except ValueError as error:
        reason = str(error)
    try:
        theirs = lying.native().dense()
    except PackingError as error:
        reason = str(error)
    if ours is None or theirs is None:
        assert ours is theirs, reason
    else:
        assert np.array_equal(bits(ours), bits(theirs))


@pytest.mark.parametrize("label", HERE)
def test_arrays_of_another_shape_or_kind_are_refused(label: str) -> None:
    packed = pack_matrix(random_matrix(16, 64, 0.4), label, "int8")
    for name, array in packed.arrays.items():
        for other in (array.reshape(-1)[:-1], array.astype(np.float64), np.zeros(0, array.dtype), array[None]):
            arrays = {**packed.arrays, name: other}
            with pytest.raises(ValueError, match=r"array|blocks|values|starts"):
                PackedMatrix("m", packed.format, "int8", 16, 64, packed.options, arrays).check()
        left = {key: a for key, a in packed.arrays.items() if key != name}
        with pytest.raises(ValueError, match="instead of"):
            PackedMatrix("m", packed.format, "int8", 16, 64, packed.options, left).check()
