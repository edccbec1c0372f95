"""ONNX files compute what torch computes, and spell the same words on real speech."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.packed_models import FEATURES, TOKENIZER, pruned, trained

from cspbench.asr.decoding import greedy
from cspbench.corpora.audio import read_audio
from cspbench.corpora.features import model_inputs
from cspbench.runtime.packing import pack_model
from cspbench.training.checkpoint import save_model

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from cspbench.runtime.export.files import ExportError, import_onnxruntime  # noqa: E402
from cspbench.runtime.export.onnx_export import OnnxTransducer, check_export, export_onnx, part_path  # noqa: E402


def test_onnxruntime_is_told_to_report_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    import_onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")  # whoever wants it has the last word
    import_onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("sparsity", [0.0, 0.9, 1.0])
def test_onnxruntime_computes_what_torch_computes(sparsity: float, sparse: bool, tmp_path: Path) -> None:
    model = pack_model(trained(pruned(sparsity)), format="smallest")
    export_onnx(model, tmp_path / "m.onnx", sparse=sparse)
    found = check_export(model, tmp_path / "m.onnx")
    assert set(found) == {"encoder", "prediction", "joint"}
    assert max(found.values()) < 1e-5


def test_a_difference_does_not_pass(tmp_path: Path) -> None:
    model = pack_model(trained(pruned(0.5)), format="smallest")
    export_onnx(model, tmp_path / "m.onnx")
    other = pack_model(trained(pruned(0.5, seed=1)), format="smallest")
    with pytest.raises(ExportError, match="encoder differs by"):
        check_export(other, tmp_path / "m.onnx")


def test_one_frame_at_a_time_is_all_frames_at_once(tmp_path: Path) -> None:
    model = pack_model(trained(pruned(0.5)), format="smallest")
    export_onnx(model, tmp_path / "m.onnx")
    exported = OnnxTransducer(tmp_path / "m.onnx")
    features = np.random.default_rng(0).standard_normal((3, 7, 24)).astype(np.float32)
    whole, after = exported.encode(features, exported.zero_state("encoder", 3))
    state, steps = exported.zero_state("encoder", 3), []
    for t in range(7):
        frame, state = exported.encode(features[:, t : t + 1], state)
        steps.append(frame)
    assert np.allclose(np.concatenate(steps, axis=1), whole, atol=1e-6)
    assert np.allclose(state, after, atol=1e-6)


def test_sparse_initialisers_are_smaller_and_dense_ones_stay_where_they_gain_nothing(tmp_path: Path) -> None:
    model = pack_model(trained(pruned(0.9)), format="smallest")
    dense = export_onnx(model, tmp_path / "dense.onnx")["encoder"]
    sparse = export_onnx(model, tmp_path / "sparse.onnx", sparse=True)["encoder"]
    assert sparse.stat().st_size < 0.6 * dense.stat().st_size
    graph = onnx.load(sparse).graph
    stored = {s.values.name for s in graph.sparse_initializer}
    assert "encoder.layers.0.input" in stored
    assert "encoder.layers.0.bias" in {i.name for i in graph.initializer}
    full = export_onnx(pack_model(trained(pruned(0.3)), format="smallest"), tmp_path / "full.onnx", sparse=True)
    assert not onnx.load(full["encoder"]).graph.sparse_initializer


def test_files_say_how_to_use_them_and_are_the_same_each_time(tmp_path: Path) -> None:
    model = pack_model(trained(pruned(0.8), synthetic_speech=True), format="smallest")
    paths = export_onnx(model, tmp_path / "m.onnx")
    assert [p.name for p in paths.values()] == ["m.encoder.onnx", "m.prediction.onnx", "m.joint.onnx"]
    for path in paths.values():
        onnx.checker.check_model(path)
        assert onnx.load(path).opset_import[0].version == 17
    metadata = OnnxTransducer(tmp_path / "m.onnx").metadata
    assert metadata["tokenizer"] == TOKENIZER.state()
    assert metadata["features"]["mels"] == 8
    assert metadata["synthetic"] is True
    again = export_onnx(model, tmp_path / "n.onnx")
    assert all(again[part].read_bytes() == path.read_bytes() for part, path in paths.items())
    assert part_path(Path("a/b.v2.onnx"), "joint") == Path("a/b.v2.joint.onnx")
    paths["joint"].unlink()
    with pytest.raises(ExportError, match=r"there is no .*m\.joint\.onnx"):
        OnnxTransducer(tmp_path / "m.onnx")


def test_real_speech_is_spelt_as_torch_spells_it(an4_path: Path, tmp_path: Path) -> None:
    model = pruned(0.5)
    with torch.no_grad():  # talkative: an untrained model says nothing
        model.feature_mean.fill_(10.0)
        model.feature_scale.fill_(0.3)
        for parameter in model.parameters():
            parameter.mul_(4.0)
        model.joint_output.bias.zero_()
    export_onnx(pack_model(trained(model), format="smallest"), tmp_path / "m.onnx")
    exported, said = OnnxTransducer(tmp_path / "m.onnx"), 0
    for line in (an4_path / "manifest.jsonl").read_text().splitlines()[:4]:
        samples, rate = read_audio(an4_path / json.loads(line)["audio"])
        features = model_inputs(samples, FEATURES, rate)
        expected = greedy(model, model.normalise(torch.from_numpy(features)[None]), torch.tensor([len(features)]))[0]
        assert exported.greedy(features) == expected
        said += len(expected)
    assert said > 20


def test_command(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    save_model(tmp_path / "t", trained(pruned(0.9)))
    code, out, err = run("export", tmp_path / "t", tmp_path / "m.onnx", "--sparse", "--json")
    assert code == 0
    assert "OpenVINO cannot read sparse initialisers" in err
    found = json.loads(out)
    assert "## Word errors" in Path(found["card"]).read_text(encoding="utf-8")
    assert [Path(p["file"]).name for p in found["parts"]] == ["m.encoder.onnx", "m.prediction.onnx", "m.joint.onnx"]
    assert all(p["difference"] < 1e-5 and p["bytes"] == Path(p["file"]).stat().st_size for p in found["parts"])
    code, out, err = run("export", tmp_path / "t", tmp_path / "m.onnx")
    assert code == 0
    assert "OpenVINO" not in err
    assert "m.joint.onnx" in out
    code, _, err = run("export", tmp_path / "nowhere", tmp_path / "m.onnx")
    assert code != 0
    assert "there is no file" in err
