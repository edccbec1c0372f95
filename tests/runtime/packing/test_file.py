"""Packed models as files: what was saved comes back, and nothing else is let in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.packed_models import FEATURES, RATE, TOKENIZER, pruned, trained

from cspbench.asr.speech_model import prunable_weights
from cspbench.errors import CspbenchError
from cspbench.runtime.packing import (
    PackedFileError,
    PackedModel,
    PackingError,
    dense_bytes,
    open_model,
    pack_model,
    packed_bytes,
)
from cspbench.runtime.packing.container import KEY, seal
from cspbench.training.checkpoint import save_model


def packed(sparsity: float = 0.8, **options: Any) -> PackedModel:
    return pack_model(trained(pruned(sparsity)), **{"format": "smallest", **options})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "model.safetensors"
    packed(format={"encoder.layers.0": "bitmap", "joint.*": "csr16", ".*": "csr8"}).save(path)
    return path


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 1.0])
def test_a_saved_model_comes_back_bit_for_bit(sparsity: float, tmp_path: Path) -> None:
    model = pruned(sparsity)
    made = pack_model(trained(model, trial="x", synthetic_speech=True), format="smallest")
    size = made.save(tmp_path / "m")
    assert size == made.file_bytes == (tmp_path / "m").stat().st_size
    loaded = PackedModel.load(tmp_path / "m")
    assert loaded.header == made.header
    assert loaded.header.synthetic
    assert loaded.header.provenance == {"trial": "x", "synthetic_speech": True}
    assert loaded.tokenizer.state() == TOKENIZER.state()
    assert (loaded.header.features, loaded.header.sample_rate) == (FEATURES, RATE)
    state = model.recogniser_state()
    assert set(loaded.state()) == set(state)
    for name, tensor in loaded.state().items():
        assert torch.equal(tensor.view(torch.int32), state[name].view(torch.int32)), name
    assert (
        loaded.bytes
        == made.bytes
        == sum(m.bytes for m in made.matrices.values()) + sum(v.nbytes for v in made.vectors.values())
    )


def test_the_loaded_model_recognises_as_the_packed_one() -> None:
    model, features = pruned(0.7), torch.randn(2, 9, 24)
    back = packed(0.7).trained().model
    assert not back.training
    targets = torch.tensor([[1, 2], [3, 4]])
    for ours, theirs in zip(back(features, targets)[:2], model(features, targets)[:2], strict=True):
        assert torch.equal(ours, theirs)
    assert not back.ctc.weight.any()


def test_equal_models_are_equal_files_and_arrays_are_mapped(tmp_path: Path) -> None:
    packed().save(tmp_path / "a")
    packed().save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded = PackedModel.load(tmp_path / "a")
    array = loaded.matrices["joint_encoder"].arrays["values"]
    assert not array.flags.owndata
    assert not array.flags.writeable
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_the_file_is_plain_safetensors(file: Path) -> None:
    arrays = safetensors.numpy.load_file(file)
    model = PackedModel.load(file)
    assert np.array_equal(arrays["joint_output/columns"], model.matrices["joint_output"].arrays["columns"])


def test_truncated_at_any_length_is_refused(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    for length in {*range(0, 40), *range(40, len(data), 97), len(data) - 1}:
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(PackedFileError):
            PackedModel.load(tmp_path / "cut")
    (tmp_path / "long").write_bytes(data + b"\0")
    with pytest.raises(PackedFileError, match="more than its header says"):
        PackedModel.load(tmp_path / "long")


@settings(max_examples=300)
@given(data=st.data())
def test_any_flipped_bit_is_noticed(file: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    raw = bytearray(file.read_bytes())
    header = 8 + int.from_bytes(raw[:8], "little")
    where = data.draw(st.one_of(st.integers(0, header - 1), st.integers(0, len(raw) - 1)))
    raw[where] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.getbasetemp() / "flipped"
    path.write_bytes(raw)
    with pytest.raises(PackedFileError) as refused:
        PackedModel.load(path)
    assert str(path) in str(refused.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other"
    with pytest.raises(PackedFileError, match="there is no file"):
        PackedModel.load(path)
    for content in (b"", b"\x80\x04\x95", b"{}" * 50, b"\xff" * 100, b"\2\0\0\0\0\0\0\0[]", b"\2\0\0\0\0\0\0\0{}"):
        path.write_bytes(content)
        with pytest.raises(PackedFileError, match="cannot be read"):
            PackedModel.load(path)
    path.write_bytes(safetensors.numpy.save({"x": np.ones(3, np.float32)}, metadata={"format": "pt"}))
    with pytest.raises(PackedFileError, match="not written by cspbench"):
        PackedModel.load(path)
    for sealed in ("", "5", "{}", seal(""), seal("5"), seal("[]"), seal("{}"), seal('{"value": {}, "sha256": 1}')):
        path.write_bytes(safetensors.numpy.save({"x": np.ones(3, np.float32)}, metadata={KEY: sealed}))
        with pytest.raises(PackedFileError, match="cannot be read"):
            PackedModel.load(path)
    deep = b"[" * 200_000
    path.write_bytes(len(deep).to_bytes(8, "little") + deep)
    with pytest.raises(PackedFileError):
        PackedModel.load(path)


Change = Callable[[dict[str, Any], dict[str, np.ndarray]], object]


def forged(file: Path, change: Change) -> bytes:
    """The file with other contents and sums that are right again: what somebody who knows the format could make."""
    arrays = dict(safetensors.numpy.load_file(file))
    with safetensors.safe_open(file, framework="numpy") as handle:
        inner = json.loads(handle.metadata()[KEY].partition(" ")[2])
    change(inner["value"], arrays)
    inner["sha256"] = {n: hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest() for n, a in arrays.items()}
    return safetensors.numpy.save(arrays, metadata={KEY: seal(json.dumps(inner))})


def at(path: str, value: Any) -> Change:
    def change(header: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        *parents, last = path.split("/")
        for key in parents:
            header = header[key]
        header[last] = value

    return change


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Change:
    def apply(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = change(arrays[name].copy())

    return apply


def moved_to_the_end(bits: np.ndarray) -> np.ndarray:
    """Make the first column that the first word keeps the last of its 64."""
    first = int(bits.flat[0])
    bits.flat[0] = first & (first - 1) | 2**63
    return bits


def put(index: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(x: np.ndarray) -> np.ndarray:
        x.reshape(-1)[index] = value
        return x

    return change


LIES = {
    "another version": (at("version", 3), "version 3 of the format, and this cspbench reads versions up to 2"),
    "another kind of file": (at("format", "else"), "no packed model"),
    "a huge matrix": (at("matrices/joint_output/rows", 10**9), "joint_output"),
    "a matrix of no size": (at("matrices/joint_output/rows", 0), "joint_output"),
    "rows in words": (at("matrices/joint_output/rows", "7"), "joint_output"),
    "other columns": (at("matrices/joint_output/columns", 21), r"\(7, 21\).*\(7, 20\)"),
    "a wider model": (at("model/shape/encoder_width", 64), "a model of this shape has"),
    "a deeper model": (at("model/shape/encoder_layers", 3), "missing"),
    "endless layers": (at("model/shape/encoder_layers", 10**8), "encoder_layers"),
    "more units": (at("model/shape/units", 8), "a model of this shape has"),
    "other mels": (at("features/mels", 16), "do not fit"),
    "another format": (at("matrices/joint_output/format", "bitmap"), "instead of"),
    "an unknown format": (at("matrices/joint_output/format", "zip"), "there is no format"),
    "other values": (at("matrices/joint_output/values", "fp16"), "float16"),
    "an unknown option": (at("matrices/joint_output/options", {"x": 1}), "has no option 'x'"),
    "options in words": (at("matrices/joint_output/options", {"n": "two"}), "joint_output"),
    "a block without a size": (at("matrices/joint_output/format", "block"), "0 x 0"),
    "other non-zeros": (at("matrices/joint_output/nonzeros", 3), "its header says 3"),
    "an unknown key": (at("surprise", 1), "surprise"),
    "no tokenizer": (at("tokenizer", {}), "tokenizer"),
    "a tokenizer of another size": (at("tokenizer/characters", "abc"), "4 units.*7"),
    "a sentencepiece model of nonsense": (at("tokenizer", {"kind": "sentencepiece", "model": "AAAA"}), "tokenizer"),
    "no sample rate": (at("sample_rate", None), "sample_rate"),
    "a sample rate of zero": (at("sample_rate", 0), "sample_rate"),
    "a column outside": (array("joint_output/columns", put(0, 20)), "a column is 20"),
    "columns that do not ascend": (array("joint_output/columns", put(1, 0)), "do not ascend"),
    "starts that do not ascend": (array("joint_output/starts", put(3, 60_000)), "does not ascend"),
    "starts beyond the values": (array("joint_output/starts", put(-1, 2**32 - 1)), "does not ascend"),
    "gaps beyond the row": (array("prediction.layers.0/gaps", put(0, 255)), "a column is"),
    "bits beyond the columns": (array("encoder.layers.0/bits", moved_to_the_end), "and 56 columns"),
    "a weight that is not finite": (array("joint_output/values", put(0, np.inf)), "not finite"),
    "a bias that is not finite": (array("joint_output.bias", put(0, np.nan)), "not finite"),
    "a bias of another type": (array("joint_output.bias", lambda x: x.view(np.uint32)), "uint32"),
    "a longer array": (array("joint_output/columns", lambda x: np.append(x, x[-1:])), "columns"),
    "an array of another type": (array("joint_output/columns", lambda x: x.view(np.uint8)), "columns"),
    "an array that belongs nowhere": (lambda h, a: a.update(extra=np.ones(2, np.float32)), "belongs to no matrix"),
    "a missing array": (lambda h, a: a.pop("joint_output/starts"), "instead of"),
    "a missing bias": (lambda h, a: a.pop("joint_output.bias"), "joint_output.bias"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_file_with_right_sums_must_still_make_sense(lie: str, file: Path, tmp_path: Path) -> None:
    change, message = LIES[lie]
    (tmp_path / "forged").write_bytes(forged(file, change))
    with pytest.raises(PackedFileError, match=message):
        PackedModel.load(tmp_path / "forged")


def test_an_honest_forgery_is_read(file: Path, tmp_path: Path) -> None:
    (tmp_path / "forged").write_bytes(forged(file, at("sample_rate", 8_000)))
    assert PackedModel.load(tmp_path / "forged").header.sample_rate == 8_000


def test_values_and_formats_are_chosen_by_pattern() -> None:
    model = packed(values={"encoder.*": "int8", ".*": "bf16"}, format={"joint_.*": "dense", ".*": "csr16"})
    assert {n: (m.format, m.values) for n, m in model.matrices.items()} == {
        "encoder.layers.0": ("csr16", "int8"),
        "encoder.layers.1": ("csr16", "int8"),
        "prediction.layers.0": ("csr16", "bf16"),
        "joint_encoder": ("dense", "bf16"),
        "joint_prediction": ("dense", "bf16"),
        "joint_output": ("dense", "bf16"),
    }
    with pytest.raises(PackingError, match=r"'encoder' matches no matrix; there are encoder\.layers\.0"):
        packed(format={"encoder": "dense"})
    with pytest.raises(PackingError, match="no regular expression"):
        packed(values={"(": "int8"})
    with pytest.raises(PackingError, match="did you mean 'auto'"):
        packed(format="aut")
    with pytest.raises(PackingError, match="did you mean 'int8'"):
        packed(values="int9")


def test_a_model_that_is_not_finite_is_refused() -> None:
    model = pruned(0.5)
    with torch.no_grad():
        model.joint_output.bias[2] = torch.nan
    with pytest.raises(PackingError, match=r"joint_output\.bias"):
        pack_model(trained(model), format="smallest")


def test_folders_of_the_store_are_opened(tmp_path: Path) -> None:
    model = pruned(0.6)
    save_model(tmp_path / "t", trained(model, corpus="an4", synthetic_speech=True))
    result = {"trial_id": "t1", "method": "csp", "sparsity": 0.6, "test": {"wer": 0.25}}
    (tmp_path / "t" / "result.json").write_text(json.dumps(result))
    opened = open_model(tmp_path / "t", format="smallest")
    assert opened.header.synthetic
    known = {"corpus": "an4", "trial_id": "t1", "method": "csp", "sparsity": 0.6, "test_wer": 0.25}
    assert known.items() <= opened.header.provenance.items()
    opened.save(tmp_path / "file")
    assert open_model(tmp_path / "file").header == opened.header
    weights = prunable_weights(model).values()
    zeros = sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)
    assert opened.sparsity == pytest.approx(zeros, abs=1e-9)
    with pytest.raises(CspbenchError, match="no model in"):
        open_model(tmp_path)
    (tmp_path / "t" / "result.json").write_text(json.dumps(result | {"test": None}))  # a trial to select by
    assert "test_wer" not in open_model(tmp_path / "t", format="smallest").header.provenance
    (tmp_path / "t" / "model.safetensors").write_bytes(b"1234567890")
    with pytest.raises(CspbenchError, match="cannot be read"):
        open_model(tmp_path / "t")


def test_more_zeros_are_fewer_bytes() -> None:
    sizes = [packed_bytes(trained(pruned(s))) for s in (0.0, 0.5, 0.75, 0.9, 0.95)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[3] == packed(0.9).file_bytes
    few, many = (dense_bytes(trained(pruned(s))) for s in (0.0, 0.9))
    assert abs(few - many) < 64  # the header counts the non-zeros
