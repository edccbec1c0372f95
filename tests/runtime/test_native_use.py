"""The native module as a part of a process: threads, forks, instruction sets, timing, and its absence."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from support.native_matrices import FORMATS, inputs, sparse

from cspbench.errors import CspbenchError
from cspbench.runtime import extension as optional

native = pytest.importorskip("cspbench.runtime._native", reason="NATIVE MODULE ABSENT: no compiler when installing")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("values", ["fp32", "int8"])
@pytest.mark.parametrize("rows", [1, 7, 400])
def test_threads_change_nothing(form, values, rows):
    weights = sparse(rows, 300, 0.2, 1)
    weights[: rows // 4] = 0  # so that rows and stored values are not split alike
    matrix = native.Matrix.pack(weights, form, values, **FORMATS[form])
    x = inputs(3, 300, 1)
    alone = matrix.multiply(x)
    for threads in (2, 3, 8):
        assert np.array_equal(matrix.multiply(x, threads=threads), alone)


def test_small_products_take_one_thread_and_large_ones_as_many_as_there_are():
    small, large = (native.Matrix.pack(sparse(n, 512, 0.5, 4), "dense", "fp32") for n in (64, 1024))
    assert small.bytes < 200_000 < 2_000_000 < large.bytes
    assert small.useful_threads(2) == 1
    assert small.useful_threads(2, batch=16) == 2
    assert large.useful_threads(2) == 2
    assert [large.useful_threads(most) for most in (1, 8, 256)] == [1, 8, large.bytes // (192 << 10)]


def test_an_lstm_gives_the_same_on_any_number_of_threads():
    layer = native.Matrix.pack(sparse(4 * 256, 120 + 256, 0.5, 5), "dense", "fp32"), np.full(4 * 256, 0.1, np.float32)
    assert layer[0].useful_threads(3) == 3
    x = inputs(20, 120, 5)
    expected = native.Lstm([layer]).run(x)
    for threads in (2, 3):
        assert np.array_equal(native.Lstm([layer], threads).run(x), expected)


def test_many_python_threads_share_a_matrix():
    matrix = native.Matrix.pack(sparse(300, 500, 0.2, 2), "bitmap", "fp32")
    xs = [inputs(1 + i % 3, 500, i) for i in range(6)]
    expected = [matrix.multiply(x) for x in xs]
    wrong = []

    def work(i):
        for _ in range(200):
            if not np.array_equal(matrix.multiply(xs[i], threads=1 + i % 3), expected[i]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def _in_child(matrix, x, expected, answers):
    answers.put(all(np.array_equal(matrix.multiply(x, threads=n), expected) for n in (3, 1, 2)))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_a_forked_child_has_threads_of_its_own():
    matrix = native.Matrix.pack(sparse(100, 200, 0.5, 3), "csr16", "fp32")
    x = inputs(1, 200, 3)
    expected = matrix.multiply(x, threads=3)  # the parent's threads are there, and are not the child's
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_in_child, args=(matrix, x, expected, answers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about forking with threads
        child.start()
    assert answers.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0
    assert np.array_equal(matrix.multiply(x, threads=3), expected)


def test_a_process_ends_while_its_threads_wait():
    program = """
import numpy as np
from cspbench.runtime import _native as native
matrix = native.Matrix.pack(np.ones((300, 100), np.float32), "dense", "fp32")
print(matrix.multiply(np.ones(100, np.float32), threads=4)[0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "100.0\n", "")


def test_instruction_sets():
    sets = native.instruction_sets()
    assert sets[0] == "portable"
    before = native.current()
    for name in sets:
        native.use(name)
        assert native.current() == name
    with pytest.raises(ValueError, match="these are: portable"):
        native.use("mmx")
    assert native.current() == sets[-1]
    native.use(before)


def test_every_product_is_timed():
    matrix = native.Matrix.pack(sparse(50, 60, 0.5, 4), "dense", "fp32")
    for options in ({}, {"evict": 1 << 20}, {"threads": 2}):
        seconds = matrix.time(inputs(2, 60, 4), 5, **options)
        assert seconds.shape == (5,)
        assert (seconds > 0).all()
    assert 0 < native.clock_overhead() < 1e-3
    with pytest.raises(ValueError, match="repeats"):
        matrix.time(inputs(1, 60, 4), 0)


@pytest.fixture
def _absent(monkeypatch):
    for cached in (optional.available, optional._load):
        cached.cache_clear()
    monkeypatch.setitem(sys.modules, "cspbench.runtime._native", None)
    yield
    for cached in (optional.available, optional._load):
        cached.cache_clear()


@pytest.mark.usefixtures("_absent")
def test_its_absence_is_told_once_with_the_remedy():
    with pytest.warns(RuntimeWarning, match=r"CSR matrices of torch.*install a C\+\+17 compiler"):
        assert not optional.available()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not optional.available()
    with pytest.raises(CspbenchError, match=r"measuring needs the native module.*compiler"):
        optional.require("measuring")


def test_its_presence_is_quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert optional.available()
    assert optional.require("anything") is native
