"""Libraries of block kernels: their outputs are checked before they are raced. The libraries are compiled here."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from cspbench.bench import engines
from cspbench.bench.peers import block_kernels, end_to_end, race, workload
from cspbench.bench.peers.race import COUNTS, Counts, Entry, Evictor, enter
from cspbench.bench.peers.workload import BLOCK_WORKS, Blocks4x4Work, Blocks8x4Work, LinearWork, block_work
from cspbench.errors import ConfigError
from cspbench.machine.lock import Reservation
from cspbench.runtime import extension

CODECS = Path(block_kernels.__file__).parent / "codecs"
COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)

DENSE = """
#include <stdlib.h>
#include <string.h>
#include "block_kernel.h"
struct matrix { int rows, columns; float weights[]; };
void *block_pack(const float *weights, int rows, int columns) {
    if (rows > MOST) return NULL;
    size_t size = sizeof(float) * rows * columns;
    struct matrix *m = malloc(sizeof *m + size);
    m->rows = rows, m->columns = columns;
    memcpy(m->weights, weights, size);
    return m;
}
void block_multiply(void *matrix, const float *x, float *y) {
    struct matrix *m = matrix;
    for (int r = 0; r < m->rows; r++) {
        y[r] = WRONG;
        for (int c = 0; c < m->columns; c++) y[r] += m->weights[r * m->columns + c] * x[c];
    }
}
void block_release(void *matrix) { free(matrix); }
"""
INT8 = """
#include <math.h>
#include <stdlib.h>
#include "block_kernel.h"
struct matrix { int rows, columns; float scale; signed char weights[]; };
void *block_pack(const float *weights, int rows, int columns) {
    int size = rows * columns;
    struct matrix *m = malloc(sizeof *m + size);
    m->rows = rows, m->columns = columns, m->scale = 0;
    for (int i = 0; i < size; i++) m->scale = fmaxf(m->scale, fabsf(weights[i]) / 127);
    for (int i = 0; i < size; i++) m->weights[i] = lrintf(weights[i] / m->scale);
    return m;
}
void block_multiply(void *matrix, const float *x, float *y) {
    struct matrix *m = matrix;
    for (int r = 0; r < m->rows; r++) {
        const signed char *w = m->weights + r * m->columns;
        int sum = 0, weights = 0;
        for (int c = 0; c < m->columns; c += 2) {
            int pair = w[c] * (127 + (int)lrintf(127 * x[c])) + w[c + 1] * (127 + (int)lrintf(127 * x[c + 1]));
            sum += pair > LIMIT ? LIMIT : pair < -LIMIT ? -LIMIT : pair;
            weights += w[c] + w[c + 1];
        }
        y[r] = m->scale / 127 * (sum - 127 * weights);
    }
}
void block_release(void *matrix) { free(matrix); }
"""

Compile = Callable[..., Path]


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    """Compile a library of a name into a folder."""
    if COMPILER is None:
        pytest.skip("NO C COMPILER: libraries of block kernels are not tested")

    def make(name: str, source: str, **macros: str) -> Path:
        folder = tmp_path / "kernels"
        folder.mkdir(exist_ok=True)
        (tmp_path / "source.c").write_text(source)
        words = [f"-D{key}={value}" for key, value in macros.items()]
        flags = ["-O1", "-shared", "-fPIC", f"-I{CODECS}", *words]
        subprocess.run([COMPILER, *flags, tmp_path / "source.c", "-o", folder / name, "-lm"], check=True)
        return folder

    return make


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(workload.BLOCK_SHAPES, "tiny", (48, 40))
    race._saturates.cache_clear()


def entered(folder: Path, made: type[LinearWork]) -> Entry:
    (contestant,) = block_kernels.contestants(folder)
    assert contestant.kind == made.kind
    return enter(contestant, block_work(made, "tiny", 0.75))


@pytest.mark.parametrize("made", BLOCK_WORKS)
def test_zeros_fill_blocks(made: type[LinearWork]) -> None:
    work = block_work(made, "tiny", 0.75)
    height, width = workload.block_of(made.kind)
    blocks = (work.layers[0].weight != 0).reshape(48 // height, height, 40 // width, width)
    kept = blocks.any((1, 3))
    assert (blocks.all((1, 3)) == kept).all()
    assert kept.sum() == kept.size - round(0.75 * kept.size)
    assert np.abs(work.inputs).max() < 1


def test_a_library_computes_and_times_a_product(compiled: Compile) -> None:
    entry = entered(compiled("dense.4x4.fp32.so", DENSE, MOST="999", WRONG="0"), Blocks4x4Work)
    assert (entry.name, entry.absent, entry.saturates) == ("dense", None, None)
    assert entry.error is not None
    assert entry.error < 1e-5
    assert entry.bytes == 4 * entry.work.nonzeros
    assert entry.engine is not None
    for evict in (None, Evictor(1 << 12)):
        times = entry.engine.times(3, evict)
        assert len(times) == 3
        assert all(0 < seconds < 1 for seconds in times)


def test_wrong_outputs_put_a_library_out(compiled: Compile) -> None:
    entry = entered(compiled("dense.4x4.fp32.so", DENSE, MOST="999", WRONG="0.001f"), Blocks4x4Work)
    assert entry.engine is None
    assert "wrong outputs" in str(entry.absent)


@pytest.mark.parametrize("saturates", [True, False])
def test_a_library_that_saturates_is_flagged(compiled: Compile, saturates: bool) -> None:
    limit = 2**15 - 1 if saturates else 2**30
    entry = entered(compiled("pairs.8x4.int8.so", INT8, LIMIT=str(limit)), Blocks8x4Work)
    assert entry.saturates is saturates
    assert engines._rows(entry)[0]["saturates"] is saturates
    if not saturates:
        assert entry.absent is None
        assert entry.relative is not None
        assert 0 < entry.relative < 0.02


def test_a_matrix_that_a_library_does_not_hold_is_named(compiled: Compile) -> None:
    entry = entered(compiled("dense.8x4.fp32.so", DENSE, MOST="32", WRONG="0"), Blocks8x4Work)
    assert entry.absent == "the kernel holds no matrix of 48 x 40"


def test_folders_without_usable_libraries_are_refused(compiled: Compile, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no library"):
        block_kernels.contestants(tmp_path)
    other = compiled("dense.2x2.fp32.so", DENSE, MOST="9", WRONG="0")
    with pytest.raises(ConfigError, match="is not called"):
        block_kernels.contestants(other)
    (other / "dense.2x2.fp32.so").rename(other / "text.4x4.fp32.so")
    (other / "text.4x4.fp32.so").write_text("no library")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        block_kernels.contestants(other)
    (other / "text.4x4.fp32.so").unlink()
    with pytest.raises(ConfigError, match="has no function block_pack"):
        block_kernels.contestants(compiled("empty.4x4.fp32.so", "int nothing;"))


@pytest.mark.parametrize("made", BLOCK_WORKS)
def test_ours_computes_the_product(made: type[LinearWork]) -> None:
    if not extension.available():
        pytest.skip("no native module")
    for contestant in (c for c in block_kernels.CONTESTANTS if c.kind == made.kind):
        entry = enter(contestant, block_work(made, "tiny", 0.75))
        assert entry.absent is None
        assert entry.error is not None
        assert entry.error < (1e-5 if contestant.precision == "fp32" else 0.05)
        assert f"block:{made.kind}" in str(entry.setting)


def test_the_command_races_libraries_with_ours(
    compiled: Compile, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = compiled("dense.4x4.fp32.so", DENSE, MOST="999", WRONG="0")
    for shape in ("1024x512", "4096x2016"):
        monkeypatch.delitem(workload.BLOCK_SHAPES, shape)
    for work in BLOCK_WORKS:
        monkeypatch.setitem(COUNTS, f"{work.kind}:tiny", Counts(1, 2, 1))
    monkeypatch.setattr(engines, "last_cache_bytes", lambda: 1 << 14)
    monkeypatch.setattr(engines, "measuring", lambda: nullcontext(Reservation(alone=True, waited=0.0)))
    monkeypatch.setattr(end_to_end, "measure", lambda *_: ([], {}))
    words = ("bench", "latency", "--zeros", "0.5", "--rounds", "1", "--codec-kernels", folder)
    code, out, err = run(*words, "--models", "blocks", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert {(row["engine"], row["model"]) for row in found["rows"]} >= {
        ("dense", "4x4:tiny"),
        ("ours_int8", "4x4:tiny"),
        ("ours_fp32", "8x4:tiny"),
    }
    assert all(row["zeros"] == 0.5 for row in found["rows"])
    if extension.available():
        assert "4x4:tiny:best_fp32/ours_fp32@0.50" in found["ratios"]
    code, _, err = run(*words, "--models", "linear")
    assert code == ConfigError.exit_code
    assert "add it to the models" in err
