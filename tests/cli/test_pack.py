"""`cspbench pack`: the file, and the table that says what it saved."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from support.packed_models import pruned, trained

from cspbench.runtime.packing import PackedModel, pack_matrix, pack_model
from cspbench.runtime.packing.report import matrix_rows, size_rows
from cspbench.training.checkpoint import save_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "trial", trained(pruned(0.9), trial_id="t"))
    return tmp_path / "trial"


def by(rows: list[dict[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in rows}


def test_json_counts_every_byte(folder: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "m.packed.safetensors"
    code, text, _ = run("pack", folder, out, "--format", "smallest", "--json")
    assert code == 0
    found = json.loads(text)
    model = PackedModel.load(out)
    assert found["provenance"]["trial_id"] == "t"
    assert found["zeros"] == pytest.approx(model.sparsity)
    sizes = by(found["sizes"], "form")
    assert sizes["packed file"]["bytes"] == out.stat().st_size
    assert sizes["packed"]["bytes"] == model.bytes
    rest = sum(v.nbytes for v in model.vectors.values())
    rows = by(found["matrices"], "matrix")
    assert model.bytes - rest == sum(row["bytes"] for row in rows.values())
    assert rows["joint_encoder"]["nonzeros"] == model.matrices["joint_encoder"].nonzeros
    assert all(row["bytes"] >= row["bound"] and row["over_bound"] >= 0 for row in rows.values())
    stored = {name: matrix.stored for name, matrix in model.matrices.items()}
    assert all(row["padding"] == stored[name] / row["nonzeros"] for name, row in rows.items())


def test_what_others_would_have_saved() -> None:
    model = pruned(0.9)
    unrounded = pack_model(trained(model), format="smallest")
    exact = by(size_rows(unrounded), "form")
    rounded = pack_model(trained(model), format="smallest", values="bf16")
    rows = by(size_rows(rounded, before=unrounded), "form")
    state = {name: tensor.contiguous() for name, tensor in model.recogniser_state().items()}
    file = len(safetensors.torch.save(state))
    assert exact["dense fp32"]["bytes"] == file
    assert exact["gzip of dense fp32"]["bytes"] < file / 3
    cells = sum(w.numel() for n, w in state.items() if w.dim() == 2 and not n.startswith("embedding"))
    others = sum(w.nbytes for n, w in state.items() if w.dim() == 1 or n.startswith("embedding"))
    outputs = 2 * 128 + 96 + 20 + 20 + 7
    assert exact["dense int8"]["bytes"] == cells + 4 * outputs + others
    kept = sum(int((w != 0).sum()) for n, w in state.items() if w.dim() == 2 and not n.startswith("embedding"))
    assert exact["csr16 fp32"]["bytes"] == kept * 6 + 4 * (outputs + 6) + others
    assert exact["bound"]["bytes"] <= exact["packed"]["bytes"] < exact["csr16 fp32"]["bytes"]
    assert rows["packed"]["bytes"] < exact["packed"]["bytes"]
    assert rows["gzip of dense fp32"] == exact["gzip of dense fp32"]
    assert rows["bound"]["bytes"] < exact["bound"]["bytes"]
    for row in exact.values():
        assert row["compression"] == pytest.approx(file / row["bytes"])


def test_gzip_is_that_of_the_dense_file() -> None:
    model = pack_model(trained(pruned(0.5)), format="smallest")
    file = safetensors.torch.save(model.state())
    ours = by(size_rows(model), "form")["gzip of dense fp32"]["bytes"]
    assert math.isclose(ours, len(zlib.compress(file, 9)), rel_tol=0.02)  # tensors may lie in another order


def test_an_empty_matrix_has_no_bytes_a_nonzero() -> None:
    rows = matrix_rows(pack_model(trained(pruned(1.0)), format="csr16"))
    assert all(row["nonzeros"] == 0 and row["bytes_per_nonzero"] is None and row["bound"] == 0 for row in rows)
    assert all(row["over_bound"] is None and row["padding"] is None for row in rows)


def test_padding_counts_stored_zeros() -> None:
    weight = np.zeros((8, 64), np.float32)
    weight[:, :6] = 1  # two steps of four slots a row
    assert pack_matrix(weight, "window").padding == pytest.approx(8 / 6)
    assert pack_matrix(weight, "csr16").padding == 1
    assert pack_matrix(weight, "dense").padding == pytest.approx(64 / 6)


def test_table(folder: Path, tmp_path: Path, run: Run) -> None:
    code, out, _ = run(
        "pack", folder, tmp_path / "m", "--format", "csr8", "--format", "joint.*=dense", "--values", "int8"
    )
    assert code == 0
    assert "gzip of dense fp32" in out
    assert "encoder.layers.0" in out
    model = PackedModel.load(tmp_path / "m")
    assert model.matrices["joint_output"].label == "dense"
    assert model.matrices["encoder.layers.1"].label == "csr8"
    assert {m.values for m in model.matrices.values()} == {"int8"}


def test_mistakes_are_explained(folder: Path, tmp_path: Path, run: Run) -> None:
    for words, message in (
        (["--format", "csr61"], "did you mean 'csr16'"),
        (["--values", "joint=int8"], "'joint' matches no matrix"),
        (["--format", "nm:2:4"], "2 of 4|native module"),
    ):
        code, _, err = run("pack", folder, tmp_path / "m", *words)
        assert code == 1
        assert any(part in err for part in message.split("|")), err
        assert not (tmp_path / "m").exists()
    assert run("pack", folder, tmp_path / "m", "--format", "smallest")[0] == 0
    code, _, err = run("pack", tmp_path / "m", tmp_path / "n")
    assert code == 2
    assert "give the folder" in err
