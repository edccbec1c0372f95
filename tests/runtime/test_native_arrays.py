"""The arrays of packed matrices: they come back, from any memory; and what is wrong in them is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.native_matrices import FORMATS, SCALED, VALUES, every_instruction_set, inputs, sparse
from support.native_matrices import KINDS as ALL_KINDS

native = pytest.importorskip("cspbench.runtime._native", reason="NATIVE MODULE ABSENT: no compiler when installing")

KINDS = pytest.mark.parametrize(("form", "values"), ALL_KINDS)


def packed(form, values, rows=21, columns=150, density=0.15, seed=3):
    return native.Matrix.pack(sparse(rows, columns, density, seed), form, values, **FORMATS[form])


def again(matrix, arrays=None, options=None, **changes):
    shape = {"rows": matrix.rows, "columns": matrix.columns} | changes
    return native.Matrix.from_arrays(
        matrix.format,
        matrix.values,
        shape["rows"],
        shape["columns"],
        matrix.arrays() if arrays is None else arrays,
        matrix.options if options is None else options,
    )


@KINDS
def test_a_matrix_of_its_own_arrays_is_the_same(form, values):
    matrix = packed(form, values)
    copy = again(matrix)
    assert copy.arrays().keys() == matrix.arrays().keys()
    for name, array in matrix.arrays().items():
        assert np.array_equal(copy.arrays()[name], array)
        assert not array.flags.writeable
        assert array.ctypes.data % 64 == 0
    for name in ("format", "values", "rows", "columns", "nonzeros", "stored", "bytes", "options"):
        assert getattr(copy, name) == getattr(matrix, name)
    x = inputs(3, 150, 0)
    assert np.array_equal(copy.multiply(x), matrix.multiply(x))


@KINDS
def test_packing_twice_gives_the_same_bytes(form, values):
    one, other = packed(form, values).arrays(), packed(form, values).arrays()
    assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in other.items()}


@KINDS
def test_arrays_may_lie_anywhere(form, values):
    """As slices of a file do: at odd addresses, or with gaps."""
    matrix = packed(form, values)
    arrays = {}
    for i, (name, array) in enumerate(matrix.arrays().items()):
        if i % 2:
            arrays[name] = np.repeat(array, 2, axis=0)[::2]
        else:
            memory = np.frombuffer(b"x" + array.tobytes(), np.uint8)[1:]
            arrays[name] = memory.view(array.dtype).reshape(array.shape)
    assert np.array_equal(again(matrix, arrays).dense(), matrix.dense())


def test_arrays_outlive_their_matrix():
    array = packed("csr16", "fp32").arrays()["values"]
    before = array.copy()
    packed("dense", "fp32", 500, 500)
    assert np.array_equal(array, before)


def test_matrices_that_share_pages_come_and_go_without_touching_each_other():
    """Small ones lie in the same huge pages; their memory is not given away before all of them have gone."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((200, 150)).astype(np.float32) for _ in range(60)]
    matrices = [native.Matrix.pack(each, "dense", "fp32") for each in weights]  # 7 MB in all
    for i in range(0, 60, 2):
        matrices[i] = None
    for i in range(0, 60, 4):
        matrices[i] = native.Matrix.pack(weights[i], "bitmap", "fp32")
    assert all(np.array_equal(m.dense(), w) for m, w in zip(matrices, weights, strict=True) if m)


def bump(array, at, by=1):
    changed = array.copy()
    changed.flat[at] += changed.dtype.type(by)
    return changed


REFUSED = {
    "bit beyond": ("bitmap", "bits", lambda a: bump(a, 2, 1 << 30)),
    "bit missing": ("bitmap", "bits", lambda a: a & (a - 1)),
    "starts fall": ("csr16", "starts", lambda a: bump(a, 3, 999)),
    "starts begin late": ("csr16", "starts", lambda a: bump(a, 0)),
    "starts end early": ("csr8", "starts", lambda a: np.append(a[:-1], a[-1:] - 1)),
    "starts too few": ("csr8", "starts", lambda a: a[:-1]),
    "column outside": ("csr16", "columns", lambda a: bump(a, -1, 5000)),
    "columns fall": ("csr16", "columns", lambda a: a[::-1]),
    "column twice": ("csr16", "columns", lambda a: np.concatenate([a[:1], a[:1], a[2:]])),
    "gap outside": ("csr8", "gaps", lambda a: np.full_like(a, 200)),
    "block outside": ("block", "columns", lambda a: bump(a, -1, 60)),
    "block overhang": ("block", "values", lambda a: np.ones_like(a)),
    "place outside group": ("nm", "positions", lambda a: np.full_like(a, 0xFF)),
    "values too few": ("nm", "values", lambda a: a[:, :, :-1]),
    "values too many": ("csr16", "values", lambda a: np.append(a, a[:1])),
    "another type": ("dense", "values", lambda a: a.astype(np.float64)),
    "other endian": ("dense", "values", lambda a: a.astype(">f4")),
    "objects": ("dense", "values", lambda a: a.astype(object)),
    "not a number": ("dense", "values", lambda a: bump(a, 7, np.nan)),
    "infinite": ("csr8", "values", lambda a: bump(a, 7, np.inf)),
    "another shape": ("dense", "values", lambda a: a.T),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_arrays_are_refused(case):
    form, name, change = REFUSED[case]
    matrix = packed(form, "fp32", columns=151 if form == "block" else 150)
    with pytest.raises(ValueError, match=r"\w \w"):
        again(matrix, matrix.arrays() | {name: change(matrix.arrays()[name])})


def test_a_position_behind_the_last_slot_of_a_row_is_refused():
    matrix = native.Matrix.pack(np.eye(1, 4, dtype=np.float32), "nm", "fp32", nm=(1, 4))
    arrays = matrix.arrays()
    with pytest.raises(ValueError, match="without a weight"):
        again(matrix, arrays | {"positions": arrays["positions"] | np.uint8(0x30)})


def test_wrong_names_types_and_shapes_are_refused_in_words():
    matrix = packed("csr16", "int8")
    arrays = matrix.arrays()
    for changed, words in [
        ({k: v for k, v in arrays.items() if k != "columns"}, '"columns" is missing'),
        ({k: v for k, v in arrays.items() if k != "scales"}, '"scales" is missing'),
        (arrays | {"bits": np.zeros(3)}, '"bits".*no part|"bits".*no format'),
        (arrays | {"scales": np.full(21, np.nan, np.float32)}, "scale is not finite"),
        (arrays | {"values": np.full_like(arrays["values"], -128)}, "-128"),
        (arrays | {"values": arrays["values"].view(np.uint8)}, '"values" is uint8.*must be int8'),
    ]:
        with pytest.raises(ValueError, match=words):
            again(matrix, changed)
    plain = packed("csr16", "fp32")
    with pytest.raises(ValueError, match="scales"):
        again(plain, plain.arrays() | {"scales": np.ones(21, np.float32)})
    for change in ({"rows": 20}, {"rows": 22}, {"rows": 0}, {"columns": -1}, {"columns": 3}, {"columns": 2**30}):
        with pytest.raises(ValueError, match=r"\w \w"):
            again(matrix, **change)
    with pytest.raises(ValueError, match="option"):
        again(matrix, options={"lanes": 3})
    with pytest.raises(ValueError, match="these are known: dense, bitmap"):
        native.Matrix.from_arrays("csr32", "fp32", 1, 1, {})
    with pytest.raises(ValueError, match="these are known: fp32"):
        native.Matrix.from_arrays("dense", "fp64", 1, 1, {})


def test_what_cannot_be_packed_is_refused_in_words():
    weights = sparse(8, 40, 1.0, 0)
    for form, values, options, words in [
        ("nm", "fp32", {"nm": (2, 4)}, "row 0 has more than 2 weights in columns 0 to 3"),
        ("nm", "fp32", {"nm": (5, 4)}, "1 <= N <= M"),
        ("nm", "fp32", {"nm": (4, 17)}, "M <= 16"),
        ("block", "fp32", {"block": (0, 4)}, "1 to 64"),
        ("block", "fp32", {"block": 4}, "two for block"),
        ("dense", "fp32", {"block": (2, 2)}, "no part of this format"),
        ("csr16", "fp16", {}, "row 2, column 5 is too large for 16 bits"),
    ]:
        weights[2, 5] = 70000 if values == "fp16" else 1
        with pytest.raises(ValueError, match=words):
            native.Matrix.pack(weights, form, values, **options)
    weights[2, 5] = np.inf
    for values in VALUES:
        with pytest.raises(ValueError, match="row 2, column 5 is not finite"):
            native.Matrix.pack(weights, "bitmap", values)
    with pytest.raises(ValueError, match="65536"):
        native.Matrix.pack(np.zeros((1, 65537), np.float32), "csr16", "fp32")
    with pytest.raises(ValueError, match="exact up to"):
        native.Matrix.pack(np.zeros((1, 131073), np.float32), "csr8", "int8")
    with pytest.raises(ValueError, match="0 x 5"):
        native.Matrix.pack(np.zeros((0, 5), np.float32), "dense", "fp32")


def test_inputs_of_another_shape_are_refused():
    matrix = packed("dense", "fp32")
    for shape in [(149,), (3, 151), (1, 3, 150), ()]:
        with pytest.raises(ValueError, match="150"):
            matrix.multiply(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="threads"):
        matrix.multiply(np.zeros(150, np.float32), threads=0)
    assert matrix.multiply(np.zeros((0, 150), np.float32)).shape == (0, 21)


MUTATIONS = ["byte", "byte", "byte", "bytes", "element", "shorter", "longer", "swap", "rows", "columns", "options"]


def mutate(matrix, rng):
    """Something in the arrays, shape or options changed: a byte, an element, a length."""
    arrays = {name: array.copy() for name, array in matrix.arrays().items()}
    options, changes = dict(matrix.options), {}
    kind, name = rng.choice(MUTATIONS), rng.choice(list(arrays))
    array = arrays[name]
    if kind in ("rows", "columns"):
        changes[kind] = int(rng.choice([1, getattr(matrix, kind) - 1, getattr(matrix, kind) + 1, 2000, 65536]))
    elif kind == "options" and options:
        options[str(rng.choice(list(options)))] = int(rng.choice([-1, 0, 1, 2, 3, 8, 16, 17, 64, 1000, 2**31 - 1]))
    elif kind == "shorter":
        arrays[name] = array[: rng.integers(len(array) + 1)]
    elif kind == "longer":
        arrays[name] = np.concatenate([array, array[-rng.integers(1, 40) :]])
    elif kind == "swap" and array.size > 1:
        i, j = rng.integers(array.size, size=2)
        array.flat[i], array.flat[j] = array.flat[j], array.flat[i]
    elif array.size:
        data = array.reshape(-1).view(np.uint8)
        count = {"bytes": 20, "element": array.itemsize}.get(kind, 1)
        at = rng.integers(data.size, size=count) if kind != "element" else slice(0, array.itemsize)
        data[at] = rng.choice([0, 1, 16, 127, 128, 255, rng.integers(256)], size=count)
    return arrays, options, changes


@KINDS
@given(
    rows=st.integers(1, 40),
    columns=st.sampled_from([1, 30, 64, 65, 150, 300, 700]),
    density=st.floats(0, 0.4),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_changed_arrays_are_refused_or_mean_what_they_say(form, values, rows, columns, density, seed):
    """Whatever passes the checks is a matrix like any other: its product is that of its own dense weights."""
    rng = np.random.default_rng(seed)
    matrix = packed(form, values, rows, columns, density, seed)
    arrays, options, changes = mutate(matrix, rng)
    try:
        changed = again(matrix, arrays, options, **changes)
    except ValueError:
        return
    x = inputs(2, changed.columns, seed)
    with np.errstate(all="ignore"):
        weights = changed.dense().astype(np.float64)
        exact = x.astype(np.float64) @ weights.T
        bound = 1e-5 * (np.abs(x).astype(np.float64) @ np.abs(weights).T) + 1e-30
        if values in SCALED:  # of the inputs' rounding
            bound = bound + (np.abs(x).max(-1, keepdims=True) / 250) * np.abs(weights).sum(-1)
        for name in every_instruction_set():
            assert (np.abs(changed.multiply(x) - exact) <= bound)[bound < 1e30].all(), name
