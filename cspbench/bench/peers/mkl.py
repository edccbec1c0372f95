"""Intel MKL's sparse matrices: inspector and executor, one handle a matrix, by `ctypes`."""

from __future__ import annotations

import ctypes
import importlib.metadata
from ctypes import c_float, c_int, c_void_p
from functools import cache
from pathlib import Path

import numpy as np

from cspbench.bench.peers.engine import AbsentError, Contestant, Evict, Stepping
from cspbench.bench.peers.native import gates_alone
from cspbench.bench.peers.workload import Layer, Work

SEQUENTIAL, LP64 = 1, 0
NON_TRANSPOSE, GENERAL, AGGRESSIVE = 10, 20, 81
EXPECTED_CALLS = 1_000_000


class Description(ctypes.Structure):
    """`struct matrix_descr`."""

    _fields_ = (("type", c_int), ("mode", c_int), ("diagonal", c_int))


@cache
def library() -> ctypes.CDLL:
    """MKL of the wheel `mkl`, on one thread.

    Raises:
        AbsentError: it is not installed, or cannot be loaded.
    """
    try:
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError:
        raise AbsentError("not installed: pip install 'cspbench[peers]'") from None
    found = [Path(str(file.locate())) for file in files if file.name.startswith(("libmkl_rt.", "mkl_rt."))]
    if not found:
        raise AbsentError("the installed mkl has no libmkl_rt; reinstall it")
    try:
        mkl = ctypes.CDLL(str(found[0]))
    except OSError as error:
        raise AbsentError(f"the installed mkl cannot be loaded: {error}") from error
    mkl.MKL_Set_Threading_Layer(SEQUENTIAL)
    mkl.MKL_Set_Interface_Layer(LP64)
    mkl.mkl_sparse_set_mv_hint.argtypes = [c_void_p, c_int, Description, c_int]
    mkl.mkl_sparse_set_memory_hint.argtypes = [c_void_p, c_int]
    mkl.mkl_sparse_optimize.argtypes = mkl.mkl_sparse_destroy.argtypes = [c_void_p]
    mkl.mkl_sparse_s_mv.argtypes = [c_int, c_float, c_void_p, Description, c_void_p, c_float, c_void_p]
    mkl.mkl_sparse_s_create_csr.argtypes = [c_void_p, c_int, c_int, c_int, *[c_void_p] * 4]
    return mkl


class Matrix:
    """A matrix in an optimised handle, with its input and its output."""

    def __init__(self, weight: np.ndarray) -> None:
        self.mkl = library()
        keep = weight != 0
        self.values = np.ascontiguousarray(weight[keep], dtype=np.float32)
        self.columns = np.nonzero(keep)[1].astype(np.int32)
        self.starts = np.concatenate([[0], np.cumsum(keep.sum(1))]).astype(np.int32)
        self.x, self.y = np.zeros(weight.shape[1], np.float32), np.zeros(len(weight), np.float32)
        self.handle = c_void_p()
        starts = self.starts.ctypes.data
        arrays = [starts, starts + self.starts.itemsize, self.columns.ctypes.data, self.values.ctypes.data]
        self._do("create_csr", self.mkl.mkl_sparse_s_create_csr(ctypes.byref(self.handle), 0, *weight.shape, *arrays))
        kind = Description(GENERAL, 0, 0)
        self._do("set_mv_hint", self.mkl.mkl_sparse_set_mv_hint(self.handle, NON_TRANSPOSE, kind, EXPECTED_CALLS))
        self._do("set_memory_hint", self.mkl.mkl_sparse_set_memory_hint(self.handle, AGGRESSIVE))
        self._do("optimize", self.mkl.mkl_sparse_optimize(self.handle))
        rest = kind, c_void_p(self.x.ctypes.data), c_float(0), c_void_p(self.y.ctypes.data)
        self.arguments = c_int(NON_TRANSPOSE), c_float(1), self.handle, *rest
        self.no_matrix = c_int(NON_TRANSPOSE), c_float(1), c_void_p(), *rest
        self._do("mv", self.mkl.mkl_sparse_s_mv(*self.arguments))

    def _do(self, what: str, status: int) -> None:
        if status:
            raise AbsentError(f"mkl_sparse_{what} failed with status {status}")

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.mkl.mkl_sparse_destroy(self.handle)

    @property
    def bytes(self) -> int:
        return self.values.nbytes + self.columns.nbytes + self.starts.nbytes


class Products(Stepping):
    """The matrix products. MKL has no gates: it gets ours, timed apart; none without the native module."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.matrices = [Matrix(layer.weight) for layer in work.layers]
        self.layers = work.layers
        self.bytes = sum(matrix.bytes for matrix in self.matrices)
        self.product = library().mkl_sparse_s_mv
        self.gates = gates_alone(work)
        self.setting = (
            "mkl_sparse_s_mv on optimised handles, 32-bit indices, sequential; failing calls are timed and subtracted, "
            f"{'our native gates are timed and added' if self.gates else 'gates are left out'}"
        )
        self.reset()

    def reset(self) -> None:
        self.cells = [np.zeros(layer.width, np.float32) for layer in self.layers]
        for matrix in self.matrices:
            matrix.x[:] = 0

    def load(self, x: np.ndarray) -> None:
        self.matrices[0].x[: len(x)] = x

    def step(self) -> None:
        for matrix in self.matrices:
            self.product(*matrix.arguments)

    def empty(self) -> None:
        for matrix in self.matrices:
            self.product(*matrix.no_matrix)

    def overhead(self, evict: Evict | None) -> float:
        return super().overhead(evict) - (self.gates.times(1, evict)[0] if self.gates else 0.0)

    def output(self) -> np.ndarray:
        return self.matrices[-1].x[self.layers[-1].inputs :]

    def outputs(self) -> np.ndarray:
        self.reset()
        return np.stack([self._whole_step(x) for x in self.inputs])

    def _whole_step(self, x: np.ndarray) -> np.ndarray:
        for index, (matrix, layer) in enumerate(zip(self.matrices, self.layers, strict=True)):
            matrix.x[: layer.inputs] = x
            self.product(*matrix.arguments)
            x, self.cells[index] = _gates(matrix.y, layer, self.cells[index])
            matrix.x[layer.inputs :] = x
        return x


def _gates(y: np.ndarray, layer: Layer, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    i, f, g, o = (y + layer.bias).reshape(4, -1)
    cell = cell / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
    return np.tanh(cell) / (1 + np.exp(-o)), cell


CONTESTANTS = [Contestant("mkl_sparse", "fp32", Products)]
