"""What takes part in a measurement, how its bytes are counted, and what comes out of the command and of a trial."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.talkative_model import TOKENIZER, talkative, trained

from cspbench.asr.trained import TrainedModel
from cspbench.corpora import load_corpus
from cspbench.corpora.utterance import Utterance
from cspbench.errors import ConfigError, CspbenchError
from cspbench.runtime import extension
from cspbench.runtime.latency import roofline
from cspbench.runtime.latency.audio import from_folder, noise
from cspbench.runtime.latency.device import DeviceProfile, estimate, load_profile
from cspbench.runtime.latency.engines import check_engines, default_engines, make_engine
from cspbench.runtime.latency.memory import peak_memory
from cspbench.runtime.latency.paired import measure_latency
from cspbench.runtime.latency.roofline import Bandwidth
from cspbench.runtime.packing import pack_model
from cspbench.spec import CorpusSpec, LatencySpec
from cspbench.training.checkpoint import save_model

ROOT = Path(__file__).resolve().parents[3]
needs_native = pytest.mark.skipif(not extension.available(), reason="the native module was not built here")
Run = Callable[..., tuple[int, str, str]]


def recogniser(sparsity: float = 0.8) -> TrainedModel:
    return trained(talkative(sparsity=sparsity))


@pytest.fixture(scope="module")
def real_speech(an4_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    corpus = load_corpus(CorpusSpec(name="an4", path=str(an4_path)), tmp_path_factory.mktemp("cache"))
    return corpus.split("test")[:3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", recogniser())
    return tmp_path / "model"


def matrix(rows: int, columns: int) -> int:
    """Bytes of a dense fp32 matrix with its bias."""
    return 4 * (rows * columns + rows)


def test_every_byte_of_dense_weights_is_counted() -> None:
    traffic = make_engine("torch", recogniser()).traffic
    statistics = 2 * 4 * 60
    assert traffic.step == matrix(128, 60 + 32) + matrix(128, 32 + 32) + statistics + matrix(24, 32)
    assert traffic.joint == matrix(TOKENIZER.size, 24)
    assert traffic.label == 4 * 16 + 2 * matrix(64, 16 + 16) + matrix(24, 16)


def test_csr_reads_values_columns_and_rows() -> None:
    dense, csr = (make_engine(name, recogniser(0.8)) for name in ("torch", "torch-csr"))
    output = talkative().joint_output.weight
    nonzeros, rows = int((output != 0).sum()), output.shape[0]
    assert csr.traffic.joint == nonzeros * (4 + 4) + (rows + 1) * 4 + rows * 4
    assert csr.weight_bytes < dense.weight_bytes


@needs_native
def test_native_engines_count_what_their_matrices_weigh() -> None:
    from cspbench.runtime.latency.native_engine import NativeEngine

    source = recogniser()
    plain, torch_dense = (make_engine(name, source) for name in ("dense", "torch"))
    # Not the formats that are fastest here: they need not be the smallest.
    packed, small = (
        NativeEngine(values, pack_model(source, format="csr16", values=values)) for values in ("fp32", "int8")
    )
    # torch keeps feature statistics once for each stacked frame, and a bias of zeros where there is none.
    assert plain.traffic.step == torch_dense.traffic.step - 2 * 4 * 60 + 2 * 4 * 20
    assert plain.traffic.joint == torch_dense.traffic.joint
    assert plain.traffic.label == torch_dense.traffic.label - 4 * 24
    output = source.model.joint_output.weight
    stored, rows = int((output != 0).sum()), output.shape[0]
    assert packed.traffic.joint == stored * (4 + 2) + (rows + 1) * 4 + rows * 4
    assert small.traffic.joint == stored * (1 + 2) + (rows + 1) * 4 + rows * 4 + rows * 4  # and a scale for each row
    assert small.weight_bytes < packed.weight_bytes < plain.weight_bytes
    assert small.traffic.step < packed.traffic.step < plain.traffic.step


@needs_native
def test_all_engines_hear_the_same(real_speech: list[Utterance]) -> None:
    samples, _ = soundfile.read(real_speech[0].audio, dtype="float32")
    heard = {}
    for name in ("torch", "torch-csr", "dense", "packed"):
        engine = make_engine(name, recogniser())
        engine.reset()
        heard[name] = [*engine.accept(samples), *engine.finish()]
    assert len(heard["torch"]) > 5
    assert heard["torch"] == heard["torch-csr"] == heard["dense"] == heard["packed"]


def test_a_trial_measures_both_recognisers_on_the_same_work(real_speech: list[Utterance]) -> None:
    spec = LatencySpec(threads=1, utterances=2, warmup=1, repeats=3)
    report = measure_latency(recogniser(0.0), recogniser(0.9), real_speech, spec)
    seconds = sum(u.duration for u in real_speech[:2])
    assert report.protocol["audio_seconds"] == pytest.approx(seconds, abs=0.1)
    assert report.protocol["step_ms"] == 30.0
    assert {"device", "threads", "dtype", "batch", "execution", "processor"} <= set(report.protocol)
    for engine in (report.dense, report.packed):
        assert 0 < engine.median_ms <= engine.p95_ms <= engine.p99_ms
        assert engine.steps == pytest.approx(3 * seconds / 0.03, rel=0.05)
    assert report.dense.steps == report.packed.steps
    assert report.noise is not None
    expected = ["torch", "dense", "packed", "int8"] if extension.available() else ["torch", "torch-csr"]
    assert list(report.engines) == expected
    assert type(report).model_validate_json(report.model_dump_json()) == report


def test_without_the_native_module_torch_is_measured_and_the_protocol_says_so(
    real_speech: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extension, "available", lambda: False)
    spec = LatencySpec(utterances=1, warmup=0, repeats=2)
    report = measure_latency(recogniser(0.0), recogniser(0.9), real_speech, spec)
    assert report.protocol["packed"].startswith("torch eager, CSR")
    assert report.protocol["dense"].startswith("torch eager, dense")
    assert default_engines(recogniser()) == ("torch", "torch-csr")
    with pytest.raises(CspbenchError, match="needs the native module"):
        check_engines(["torch", "int8"])


@pytest.mark.parametrize(
    ("names", "words"),
    [(["torhc"], "did you mean 'torch'"), (["torch", "torch"], "named twice")],
)
def test_engines_that_cannot_be_measured(names: list[str], words: str) -> None:
    with pytest.raises(CspbenchError, match=words):
        check_engines(names)


def test_peak_memory_is_that_of_another_process() -> None:
    ballast = np.ones(40_000_000)  # 320 MB here must not show there
    packed = pack_model(recogniser(), format="dense")
    peak, before = peak_memory(packed, "native" if extension.available() else "csr")
    assert ballast.sum() > 0
    if peak is not None and before is not None:
        assert before < peak < before + 100e6


def test_the_roof_is_bytes_over_bandwidth(monkeypatch: pytest.MonkeyPatch, real_speech: list[Utterance]) -> None:
    monkeypatch.setattr(roofline, "read_bandwidth", lambda size: Bandwidth(bytes=size, gb_per_s=2.0, how="a test"))
    spec = LatencySpec(utterances=1, warmup=0, repeats=1)
    engines = measure_latency(recogniser(0.0), recogniser(0.9), real_speech, spec).engines
    roof = roofline.roofline(engines)["engines"]["torch"]
    assert roof["bound_ms"] == pytest.approx(roof["step_bytes"] / 2e9 * 1000)
    assert roof["achieved"] == pytest.approx(roof["bound_ms"] / engines["torch"].median_ms)


def test_read_bandwidth_without_the_native_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "available", lambda: False)
    found = roofline.read_bandwidth(2**20)
    assert found.gb_per_s > 0
    assert "lower bound" in found.how


PROFILE = DeviceProfile(name="d", memory="m", read_mb_per_s=40, on_chip_bytes=1000, overhead_us=50, source="a test")


def test_an_estimate_is_bytes_over_bandwidth_and_says_what_it_is() -> None:
    found = estimate(PROFILE, step_bytes=401_000, step_ms=30.0)
    assert found.step_ms == pytest.approx(0.05 + 400_000 / 40e6 * 1000)
    assert found.real_time
    assert found.kind == "estimate, not a measurement"
    assert estimate(PROFILE, step_bytes=500, step_ms=30.0).step_ms == pytest.approx(0.05)
    assert not estimate(PROFILE, step_bytes=10e6, step_ms=30.0).real_time


@pytest.mark.parametrize("file", sorted((ROOT / "analysis" / "devices").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_profiles_that_come_along_are_examples_and_say_so(file: Path) -> None:
    assert load_profile(file).source.startswith("an example")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nmemory: b\nsource: c\n", "read_mb_per_s: Field required"),
        ("name: a\nmemory: b\nsource: c\nread_mb_per_s: -1\n", "read_mb_per_s: Input should be greater than 0"),
        ("name: a\nmemory: b\nsource: c\nread_mb_per_s: 1\nspeed: 2\n", "speed: Extra inputs"),
        ("- 1\n", "the file: Input should be"),
        ("a: [", "cannot read the device profile"),
        ("!!python/object/apply:os.system ['true']", "cannot read the device profile"),
    ],
)
def test_profiles_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "device.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_profile(file)


def test_audio_of_any_rate_is_brought_to_the_recognisers(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "b.wav", np.zeros(8000), 8000)
    soundfile.write(tmp_path / "a.flac", np.zeros(24_000), 16_000)
    (tmp_path / "notes.txt").write_text("not audio")
    audio = from_folder(tmp_path, 16_000, most=5)
    assert [len(samples) for samples in audio.utterances] == [24_000, 16_000]
    assert len(from_folder(tmp_path, 16_000, most=1).utterances) == 1
    (tmp_path / "none").mkdir()
    with pytest.raises(CspbenchError, match="holds no recording"):
        from_folder(tmp_path / "none", 16_000, most=5)
    assert "noise" in noise(16_000, 2).origin


def test_a_flac_that_states_no_length_is_streamed_to_its_end(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "piped.flac", np.random.default_rng(0).normal(size=24_000) * 0.1, 16_000)
    data = bytearray((tmp_path / "piped.flac").read_bytes())
    data[21] &= 0xF0  # as ffmpeg writes it to a pipe: neither a number of samples nor a checksum in its header
    data[22:42] = bytes(20)
    (tmp_path / "piped.flac").write_bytes(data)
    assert [len(samples) for samples in from_folder(tmp_path, 16_000, most=5).utterances] == [24_000]


def test_the_command_prints_measurements_and_estimates_apart(run: Run, folder: Path, tmp_path: Path) -> None:
    profile = ROOT / "analysis" / "devices" / "lpddr4_phone.yaml"
    options = ("--engines", "torch,torch-csr", "--utterances", 2, "--repeats", 2, "--no-memory")
    code, out, err = run("latency", folder, *options, "--device-profile", profile, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert set(found) == {"model", "measured", "roofline", "estimates"}
    measured = found["measured"]
    assert set(measured) == {"engines", "ratios", "noise", "protocol"}
    assert list(measured["engines"]) == ["torch", "torch-csr"]
    engine = measured["engines"]["torch-csr"]
    expected = {"median_ms", "p95_ms", "p99_ms", "rtf", "finish_ms", "first_token", "step_bytes", "memory", "median"}
    assert expected <= set(engine)
    assert list(measured["ratios"]) == ["torch/torch-csr"]
    assert {"value", "low", "high", "verdict"} <= set(measured["ratios"]["torch/torch-csr"])
    assert {"conclusive", "reasons", "figures", "same"} <= set(measured["noise"])
    assert {"processor", "processors", "threads", "torch", "repeats", "audio"} <= set(measured["protocol"])
    assert measured["protocol"]["audio"].startswith("noise")
    (estimated,) = found["estimates"]
    assert estimated["kind"] == "estimate, not a measurement"
    assert "estimate" not in json.dumps(measured)
    assert found["model"]["sparsity"] == pytest.approx(0.8, abs=0.02)


def test_the_command_in_words(run: Run, folder: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(size=16_000) * 0.01, 16_000)
    profile = ROOT / "analysis" / "devices" / "quad_spi_flash.yaml"
    options = ("--engines", "torch", "--audio", tmp_path, "--repeats", 2, "--device-profile", profile, "--no-memory")
    code, out, err = run("latency", folder, *options)
    assert code == 0, err
    assert "Measured" in out
    assert re.search(r"^engine +step µs", out, re.MULTILINE)
    assert "Roofline" in out
    assert "ESTIMATE, not a measurement" in out
    assert ("NOISY" in out) != ("Quiet enough" in out)


def test_more_threads_than_can_run_are_refused(run: Run, folder: Path, tmp_path: Path) -> None:
    for command in (("latency", folder, "--engines", "torch"), ("transcribe", folder, tmp_path / "a.wav")):
        code, _, err = run(*command, "--threads", 99)
        assert code == 2
        assert "99 threads cannot run at a time here" in err


def test_a_throttled_measurement_says_so(monkeypatch: pytest.MonkeyPatch, run: Run, folder: Path) -> None:
    monkeypatch.setattr("cspbench.runtime.latency.noise.Watch.figures", lambda self: {"throttled_share": 0.9})
    code, out, _ = run("latency", folder, "--engines", "torch", "--utterances", 1, "--repeats", 2, "--no-memory")
    assert code == 0
    assert "THROTTLED" in out
    assert "quota stopped this process in 90% of its periods" in " ".join(out.split())


def test_one_source_of_audio_at_a_time(run: Run, folder: Path, tmp_path: Path) -> None:
    code, _, err = run("latency", folder, "--audio", tmp_path, "--corpus", "an4", "--engines", "torch")
    assert (code, "not both" in err) == (2, True)
    code, _, err = run("latency", folder, "--path", tmp_path, "--engines", "torch")
    assert (code, "--path is the folder of a --corpus" in err) == (2, True)


@needs_native
def test_a_packed_file_is_run_as_it_is(run: Run, tmp_path: Path) -> None:
    pack_model(recogniser(), format="csr16").save(tmp_path / "model.packed")
    options = ("--engines", "dense,packed", "--utterances", 1, "--repeats", 2, "--no-memory", "--json")
    code, out, err = run("latency", tmp_path / "model.packed", *options)
    assert code == 0, err
    engines = json.loads(out)["measured"]["engines"]
    assert "csr16 fp32" in engines["packed"]["engine"]
    assert "dense fp32" in engines["dense"]["engine"]
