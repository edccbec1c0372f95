"""The recogniser hears what batch decoding in torch hears, however the audio is cut, natively and on torch."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.talkative_model import FEATURES, RATE, TOKENIZER, talkative, trained

from cspbench.asr.decoding import greedy
from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer
from cspbench.corpora.features import log_mel, model_inputs
from cspbench.runtime import Recogniser, extension
from cspbench.runtime.packing import PackedModel, pack_model
from cspbench.runtime.recogniser import SNAPSHOT, RecogniserError
from cspbench.training.checkpoint import save_model

needs_native = pytest.mark.skipif(not extension.available(), reason="the native module is not built here")


def speech(seconds: float = 1.0, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Noise that comes and goes with changing colour, so that there is something to tell apart."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(int(seconds * rate))
    time = np.arange(len(noise)) / rate
    tone = np.sin(2 * np.pi * (300 + 200 * np.sin(2 * np.pi * 2 * time)) * time)
    return (0.2 * (np.sin(2 * np.pi * 3 * time) ** 2 * noise * 0.3 + 0.7 * tone)).astype(np.float32)


def batch_labels(model: LSTMTransducer, samples: np.ndarray) -> list[int]:
    inputs = model_inputs(samples, FEATURES, RATE)
    if not len(inputs):
        return []
    return greedy(model, model.normalise(torch.from_numpy(inputs)[None]), torch.tensor([len(inputs)]))[0]


def packed_recogniser(
    model: LSTMTransducer, format: str = "csr16", values: str = "fp32", threads: int = 1
) -> Recogniser:
    return Recogniser(pack_model(trained(model), format=format, values=values), threads)


@pytest.fixture(params=[pytest.param("native", marks=needs_native), "torch"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(extension, "available", lambda: False)
    return request.param


@pytest.fixture
def recogniser(engine: str) -> Recogniser:
    return packed_recogniser(talkative(), "bitmap")


def hear(stream: Recogniser, samples: np.ndarray, cuts: list[int]) -> list[int]:
    for piece in np.split(samples, cuts):
        stream.accept(piece)
    stream.finish()
    return stream.labels


# ---- the same labels as batch decoding


@needs_native
@pytest.mark.parametrize("format", ["dense", "bitmap", "csr16", "csr8", "window", "block:4x4"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_are_those_of_batch_decoding_in_every_format(format: str, seed: int) -> None:
    model = talkative(seed)
    recogniser = packed_recogniser(model, format)
    emitted = 0
    for utterance in range(4):
        samples = speech(0.8, utterance)
        recogniser.reset()
        assert hear(recogniser, samples, []) == batch_labels(model, samples)
        emitted += len(recogniser.labels)
    assert emitted > 20


def test_text_grows_with_the_samples_and_ends_as_batch_decoding_has_it(recogniser: Recogniser) -> None:
    samples = speech(1.5)
    texts = [recogniser.accept(piece) for piece in np.array_split(samples, 40)]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    assert len(set(texts)) > 5
    assert recogniser.finish() == recogniser.text == TOKENIZER.decode(batch_labels(talkative(), samples))


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 719, 720, 721, 1199, 1200])
def test_a_rest_that_fills_no_step_is_dropped_as_in_batch_decoding(recogniser: Recogniser, samples: int) -> None:
    audio = speech(1.0)[:samples]
    assert hear(recogniser, audio, []) == batch_labels(talkative(), audio)
    assert recogniser.stream().steps == 0
    assert recogniser.steps == (0 if samples < 720 else (samples - 720) // 480 + 1)


@pytest.mark.parametrize("samples", [0, 1, 80, 399, 400, 721, 16_000])
def test_levels_and_ends_are_those_of_batch_decoding(engine: str, samples: int) -> None:
    """Features relative to the level so far, and the flush; also if a snapshot is taken in between."""
    features = FEATURES.model_copy(update={"flush_ms": 300.0, "level_fall": 0.01})
    audio, model = speech(1.0)[:samples], talkative()
    with torch.no_grad():
        model.feature_mean.fill_(-4.0)
    recogniser = Recogniser(pack_model(trained(model, features)))
    recogniser.accept(audio[: samples // 2])
    later = recogniser.stream()
    later.restore(recogniser.snapshot())
    inputs = model_inputs(audio, features, RATE)
    expected = greedy(model, model.normalise(torch.from_numpy(inputs)[None]), torch.tensor([len(inputs)]))[0]
    for stream in (recogniser, later):
        stream.accept(audio[samples // 2 :])
        before = len(stream.labels)
        stream.finish()
        assert stream.labels == expected
        assert before < len(expected)
        assert stream.steps == (samples + round(0.3 * RATE) - 720) // 480 + 1


@needs_native
def test_max_symbols_bounds_a_step() -> None:
    model = talkative()
    with torch.no_grad():
        model.joint_output.bias[0] = -1e4  # never the blank
    packed = pack_model(trained(model), format="dense")
    for most in (1, 4, 7):
        recogniser = Recogniser(packed, max_symbols=most)
        recogniser.accept(speech(0.5))
        assert len(recogniser.labels) == most * recogniser.steps > 0


@needs_native
def test_ties_go_to_the_first_label_as_in_torch() -> None:
    model = talkative()
    with torch.no_grad():
        model.joint_output.weight.zero_()
        model.joint_output.bias[:] = torch.tensor([0.0, -1, 2, 2, 1, 2, 0, 0, 0])
    samples = speech(0.3)
    recogniser = packed_recogniser(model)
    recogniser.accept(samples)
    assert set(recogniser.labels) == {2}
    assert recogniser.labels == batch_labels(model, samples)


@needs_native
@pytest.mark.parametrize("values", ["fp16", "bf16", "int8", "int4"])
def test_other_values_hear_what_their_rounded_weights_hear(values: str) -> None:
    """fp16 and bf16 are the batch decoding of the rounded weights; int8 and int4 round the inputs as well."""
    packed = pack_model(trained(talkative()), format="window", values=values)
    samples = speech(2.0)
    heard = hear(Recogniser(packed), samples, [])
    expected = batch_labels(packed.trained().model, samples)
    if values in ("int8", "int4"):
        assert len(heard) == pytest.approx(len(expected), rel=0.3)
    else:
        assert heard == expected


@needs_native
def test_int8_gives_the_same_bits_in_every_format_and_on_every_instruction_set() -> None:
    module = extension.require("this test")
    samples, before = speech(1.0), module.current()
    states = set()
    for name in module.instruction_sets():
        module.use(name)
        for format in ("dense", "bitmap", "csr16", "csr8", "window", "block:2x2"):
            recogniser = packed_recogniser(talkative(), format, "int8")
            recogniser.accept(samples)
            states.add(recogniser.snapshot())
    module.use(before)
    assert len(states) == 1


@needs_native
def test_int4_gives_the_same_bits_on_every_instruction_set_and_out_of_a_file(tmp_path: Path) -> None:
    module = extension.require("this test")
    samples, before = speech(1.0), module.current()
    packed = pack_model(trained(talkative()), format="window:64x16", values="int4")
    packed.save(tmp_path / "model.packed.safetensors")
    states = set()
    for name in module.instruction_sets():
        module.use(name)
        for source in (packed, PackedModel.load(tmp_path / "model.packed.safetensors")):
            recogniser = Recogniser(source)
            recogniser.accept(samples)
            states.add(recogniser.snapshot())
    module.use(before)
    assert len(states) == 1


# ---- pieces, snapshots, many streams


@needs_native
@given(cuts=st.lists(st.integers(0, 8000), max_size=12).map(sorted))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    samples = speech(0.5)
    assert hear(_shared().stream(), samples, cuts) == hear(_shared().stream(), samples, [])


def _shared(made: list[Recogniser] = []) -> Recogniser:  # noqa: B006 - made once, for hypothesis
    if not made:
        made.append(packed_recogniser(talkative()))
    return made[0]


def test_one_sample_at_a_time_is_all_at_once(recogniser: Recogniser) -> None:
    samples = speech(0.25)
    one, all_ = recogniser.stream(), recogniser.stream()
    assert hear(one, samples, list(range(1, len(samples)))) == hear(all_, samples, [])
    if recogniser.native:
        assert one.snapshot() == all_.snapshot()  # to the last bit of every state


@pytest.mark.parametrize("cut", [0, 1, 300, 720, 1000, 5000, 8000])
def test_a_snapshot_goes_on_elsewhere(recogniser: Recogniser, engine: str, cut: int) -> None:
    samples = speech(0.5)
    whole = hear(recogniser.stream(), samples, [])
    first = recogniser.stream()
    first.accept(samples[:cut])
    snapshot = first.snapshot()
    elsewhere = packed_recogniser(talkative(), "bitmap")
    elsewhere.accept(speech(0.3, seed=9))  # what it has heard before is gone
    elsewhere.restore(snapshot)
    assert elsewhere.snapshot() == snapshot
    assert elsewhere.labels == first.labels
    assert hear(elsewhere, samples[cut:], [100, 200]) == whole == hear(first, samples[cut:], [])


def test_a_finished_stream_comes_back_finished(recogniser: Recogniser) -> None:
    recogniser.accept(speech(0.3))
    text = recogniser.finish()
    other = recogniser.stream()
    other.restore(recogniser.snapshot())
    assert other.finish() == text
    with pytest.raises(RecogniserError, match="finished"):
        other.accept(speech(0.1))


def test_snapshots_of_anything_else_are_refused_and_change_nothing(recogniser: Recogniser) -> None:
    recogniser.accept(speech(0.3))
    good = recogniser.snapshot()
    damaged = [good[:k] + bytes([good[k] ^ 1]) + good[k + 1 :] for k in range(0, len(good), 97)]
    for bad in [b"", b"nonsense", good[:-1], good + b"\0", *damaged]:
        with pytest.raises(RecogniserError, match="snapshot"):
            recogniser.restore(bad)
    for head in (b"", b"[]", b"{}", b"\xff", b'{"native": true, "finished": false, "labels": 3}'):
        body = head + b"\n"  # with a sum that is right
        with pytest.raises(RecogniserError, match="no snapshot"):
            recogniser.restore(SNAPSHOT + hashlib.sha256(body).digest() + body)
    assert recogniser.snapshot() == good
    with pytest.raises(RecogniserError, match="another shape"):
        packed_recogniser(talkative(width=40)).restore(good)


@needs_native
def test_a_tampered_native_state_is_refused() -> None:
    """Also one whose checksum was made anew: no size in it is believed."""
    stream = extension.require("this test").Stream(_shared()._network)
    stream.accept(speech(0.3))
    good = stream.state()
    rng = np.random.default_rng(0)
    for _ in range(300):
        body = bytearray(good[:-8])
        for at in rng.integers(0, len(body), size=rng.integers(1, 4)):
            body[at] = rng.integers(256)
        cut = bytes(body) if rng.random() < 0.7 else bytes(body)[: rng.integers(len(body))]
        tampered = cut + _fnv(cut).to_bytes(8, "little")
        try:
            stream.restore(tampered)
        except ValueError:
            assert stream.state() == good
        else:  # floats changed into other floats
            assert len(stream.state()) == len(good)
            if not stream.finished:
                stream.accept(speech(0.1))
            stream.restore(good)


def _fnv(data: bytes) -> int:
    value = 14695981039346656037
    for byte in data:
        value = ((value ^ byte) * 1099511628211) % 2**64
    return value


def test_interleaved_streams_do_not_hear_each_other(recogniser: Recogniser) -> None:
    audio = [speech(0.6, seed) for seed in range(3)]
    alone = [hear(recogniser.stream(), samples, []) for samples in audio]
    streams = [recogniser.stream() for _ in audio]
    for piece in range(0, len(audio[0]), 700):
        for stream, samples in zip(streams, audio, strict=True):
            stream.accept(samples[piece : piece + 700])
    assert [s.labels for s in streams] == alone
    assert len({tuple(labels) for labels in alone}) == 3


@needs_native
@pytest.mark.parametrize("values", ["fp32", "int8"])
@pytest.mark.parametrize("format", ["dense", "bitmap", "csr16", "csr8", "window"])
def test_streams_that_advance_together_hear_what_they_hear_alone(format: str, values: str) -> None:
    _advance_together(packed_recogniser(talkative(), format, values), 20)  # more than kernels take at once


def test_streams_advance_together_on_either_engine(recogniser: Recogniser) -> None:
    _advance_together(recogniser, 3)


def _advance_together(recogniser: Recogniser, count: int) -> None:
    audio = [speech(0.2 + 0.1 * seed, seed) for seed in range(count)]
    alone = [hear(recogniser.stream(), samples, []) for samples in audio]
    streams = [recogniser.stream() for _ in audio]
    rng = np.random.default_rng(0)
    while any(len(samples) for samples in audio):
        counts = [int(rng.integers(0, 3000)) for _ in audio]
        texts = recogniser.advance(streams, [samples[:count] for samples, count in zip(audio, counts, strict=True)])
        audio = [samples[count:] for samples, count in zip(audio, counts, strict=True)]
        assert texts == [stream.text for stream in streams]
    assert [stream.labels for stream in streams] == alone


def test_advancing_nonsense_is_refused(recogniser: Recogniser) -> None:
    stream, piece = recogniser.stream(), speech(0.1)
    assert recogniser.advance([], []) == []
    with pytest.raises(RecogniserError, match="2 streams cannot take 1"):
        recogniser.advance([stream, recogniser.stream()], [piece])
    with pytest.raises(RecogniserError, match="each once"):
        recogniser.advance([stream, stream], [piece, piece])
    with pytest.raises(RecogniserError, match="one recogniser"):
        recogniser.advance([packed_recogniser(talkative()).stream()], [piece])


@needs_native
def test_threads_may_share_a_recogniser() -> None:
    recogniser, audio = _shared(), [speech(1.0, seed) for seed in range(4)]
    alone = [hear(recogniser.stream(), samples, []) for samples in audio]
    heard: dict[int, list[int]] = {}

    def work(index: int) -> None:
        heard[index] = hear(recogniser.stream(), audio[index], list(range(480, 16_000, 480)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [heard[i] for i in range(4)] == alone


def test_reset_forgets_the_utterance_before(recogniser: Recogniser) -> None:
    fresh = hear(recogniser.stream(), speech(0.5), [])
    recogniser.accept(speech(0.4, seed=5))
    recogniser.reset()
    assert (recogniser.text, recogniser.labels) == ("", [])
    assert hear(recogniser, speech(0.5), []) == fresh
    recogniser.reset()  # also after the end
    assert hear(recogniser, speech(0.5), []) == fresh


# ---- samples of all kinds


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
def test_other_rates_are_resampled_however_they_are_cut(recogniser: Recogniser, rate: int) -> None:
    samples = speech(1.0, rate=rate)
    whole, cut = recogniser.stream(), recogniser.stream()
    whole.accept(samples, rate)
    for piece in np.array_split(samples, 37):
        cut.accept(piece, rate)
    assert cut.finish() == whole.finish()
    expected = batch_labels(talkative(), soxr.resample(samples, rate, RATE))
    assert whole.steps == pytest.approx((RATE - 400) // 160 // 3, abs=1)
    assert len(whole.labels) == pytest.approx(len(expected), abs=4)


def test_a_resampled_stream_ends_with_what_the_resampler_held(recogniser: Recogniser) -> None:
    stream = recogniser.stream()
    stream.accept(speech(1.0, rate=8_000), 8_000)
    before = stream.steps
    stream.finish()
    assert before < stream.steps == ((RATE - 400) // 160 + 1) // 3
    stream.reset()
    stream.accept(speech(0.1), 8_000)
    with pytest.raises(RecogniserError, match="8000 Hz has no snapshot"):
        stream.snapshot()


@pytest.mark.parametrize(("value", "told"), [(np.nan, "finite"), (3000.0, "divide 16-bit")])
def test_a_piece_that_is_refused_is_lost_to_no_other_stream(recogniser: Recogniser, value: float, told: str) -> None:
    alone, one, other = (recogniser.stream() for _ in range(3))
    samples = speech(1.0, rate=8_000)
    alone.accept(samples, 8_000)
    broken = np.full(10, value, np.float32)
    for half in np.split(samples, 2):
        with pytest.raises(RecogniserError, match=told):
            recogniser.advance([one, other], [half, broken], 8_000)
        recogniser.advance([one, other], [half, half], 8_000)
    assert one.finish() == other.finish() == alone.finish()


def test_whole_numbers_are_scaled(recogniser: Recogniser) -> None:
    samples = np.round(speech(0.5) * 32768).astype(np.int16)
    expected = hear(recogniser.stream(), (samples / 32768).astype(np.float32), [])
    assert hear(recogniser.stream(), samples, []) == expected
    assert hear(recogniser.stream(), samples.astype(np.int32) * 65536, []) == expected
    assert hear(recogniser.stream(), (samples / 32768).astype(np.float64)[::1], []) == expected


def test_samples_that_are_none_are_refused_and_not_heard(recogniser: Recogniser) -> None:
    for bad, words in [
        (np.full(10, np.nan, np.float32), "finite"),
        (np.array([np.inf], np.float32), "finite"),
        (np.full(10, 3000.0, np.float32), "divide 16-bit"),
        (np.zeros((10, 2), np.float32), "one channel"),
        (np.zeros(10, np.uint8), "uint8"),
    ]:
        with pytest.raises(RecogniserError, match=words):
            recogniser.accept(bad)
    recogniser.accept(speech(0.1), RATE)
    with pytest.raises(RecogniserError, match="began with 16000 Hz"):
        recogniser.accept(speech(0.1), 8_000)
    recogniser.finish()
    with pytest.raises(RecogniserError, match="reset"):
        recogniser.accept(speech(0.1))


@needs_native
def test_a_stream_in_use_says_so() -> None:
    stream = extension.require("this test").Stream(_shared()._network)
    with pytest.raises(RuntimeError, match="once at a time"):
        extension.require("this test").advance([stream, stream], [speech(0.1), speech(0.1)])
    assert len(stream.accept(speech(0.5))) > 0  # and is free again


@needs_native
def test_features_may_take_the_place_of_samples() -> None:
    recogniser, samples = _shared(), speech(0.7)
    stream = extension.require("this test").Stream(recogniser._network)
    frames = log_mel(samples, FEATURES, RATE)
    assert stream.accept_features(frames[:5]) + stream.accept_features(frames[5:]) == batch_labels(talkative(), samples)
    with pytest.raises(ValueError, match=r"\(T, 20\)"):
        stream.accept_features(np.zeros((4, 21), np.float32))


# ---- the command


@needs_native
def test_a_packed_file_is_heard_without_torch(tmp_path: Path) -> None:
    model = talkative()
    pack_model(trained(model), format="csr16").save(tmp_path / "model")
    np.save(tmp_path / "speech.npy", speech())
    code = (
        "import sys, numpy; from cspbench.runtime import Recogniser; heard = Recogniser.load('model');"
        "heard.accept(numpy.load('speech.npy')); heard.finish(); print(heard.labels, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{batch_labels(model, speech())} False"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    save_model(tmp_path / "model", trained(talkative()))
    return tmp_path


Run = Callable[..., tuple[int, str, str]]


def test_transcribe_prints_what_is_said_in_files_of_any_kind(run: Run, folder: Path) -> None:
    samples = speech(1.0)
    soundfile.write(folder / "mono.flac", samples, RATE)
    soundfile.write(folder / "stereo.wav", np.stack([samples, samples], axis=1), RATE, subtype="FLOAT")
    soundfile.write(folder / "other.wav", speech(1.0, rate=44_100), 44_100)
    expected = TOKENIZER.decode(batch_labels(talkative(), samples))
    assert run("transcribe", folder / "model", folder / "stereo.wav")[:2] == (0, expected + "\n")
    code, out, _ = run("transcribe", folder / "model", *(folder / f for f in ("mono.flac", "other.wav")), "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [e["seconds"] for e in events] == [1.0, 1.0]
    assert events[0]["file"].endswith("mono.flac")
    assert events[1]["text"]


def test_transcribe_streams_text_as_it_appears(run: Run, folder: Path) -> None:
    soundfile.write(folder / "a.wav", speech(1.0), RATE, subtype="FLOAT")
    code, out, _ = run("transcribe", folder / "model", folder / "a.wav", "--stream", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [e.get("final", False) for e in events] == [False] * (len(events) - 1) + [True]
    assert len(events) > 5
    assert all(b["seconds"] >= a["seconds"] for a, b in itertools.pairwise(events))
    assert "".join(e["new"] for e in events) == events[-1]["text"]
    lines = run("transcribe", folder / "model", folder / "a.wav", "--stream")[1].splitlines()
    assert [line.split("\t") for line in lines] == [[f"{e['seconds']:.2f}", e["new"]] for e in events if e["new"]]


def test_transcribe_reads_folders_standard_input_and_streamed_headers(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(folder / "a.flac", speech(1.0), RATE)
    expected = run("transcribe", folder / "model", folder / "a.flac")[1]
    piped = bytearray((folder / "a.flac").read_bytes())
    piped[21] &= 0xF0
    piped[22:26] = bytes(4)
    (folder / "audio").mkdir()
    (folder / "audio" / "piped.flac").write_bytes(piped)
    (folder / "audio" / "notes.txt").write_text("not this one")
    assert run("transcribe", folder / "model", folder / "audio")[:2] == (0, expected)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(piped)))
    assert run("transcribe", folder / "model", "-")[:2] == (0, expected)
    (folder / "empty").mkdir()
    code, _, err = run("transcribe", folder / "model", folder / "empty")
    assert code == 2
    assert "holds no recording" in err


def test_transcribe_decodes_one_channel_of_a_call(run: Run, folder: Path) -> None:
    caller, called = speech(1.0), 0.3 * speech(1.0)[::-1]
    soundfile.write(folder / "call.wav", np.stack([caller, called], axis=1), RATE, subtype="FLOAT")
    for channel, samples in enumerate((caller, called)):
        soundfile.write(folder / "alone.wav", samples, RATE, subtype="FLOAT")
        expected = run("transcribe", folder / "model", folder / "alone.wav")[1]
        assert run("transcribe", folder / "model", folder / "call.wav", "--channel", channel)[:2] == (0, expected)
    assert "not channel 2" in run("transcribe", folder / "model", folder / "call.wav", "--channel", 2)[2]


def test_half_a_recording_is_no_success(run: Run, folder: Path) -> None:
    soundfile.write(folder / "a.wav", speech(1.0), RATE)
    (folder / "a.wav").write_bytes((folder / "a.wav").read_bytes()[: 44 + RATE])
    code, out, err = run("transcribe", folder / "model", folder / "a.wav")
    assert (code, out) == (1, "")
    assert "a.wav: is cut off: 0.50 s of 1.00 s are missing" in err


def test_transcribe_goes_on_after_a_file_it_cannot_read(run: Run, folder: Path) -> None:
    soundfile.write(folder / "good.wav", speech(1.0), RATE, subtype="FLOAT")
    soundfile.write(folder / "loud.wav", np.full(4000, 1e6, np.float32), RATE, subtype="FLOAT")
    (folder / "text.wav").write_text("this is no audio")
    names = ("missing.wav", "text.wav", "good.wav", "loud.wav")
    code, out, err = run("transcribe", folder / "model", *(folder / f for f in names))
    assert code == 1
    assert out.count("\n") == 1
    assert out.startswith(f"{folder / 'good.wav'}\t")
    assert "missing.wav: no such audio file" in err
    assert "text.wav: audio cannot be read" in err
    assert "loud.wav: the sample at 0.000 s is 1e+06: float audio has full scale at 1" in err
    assert "3 of 4 recordings" in err


def test_a_packed_file_has_the_values_it_has(run: Run, folder: Path) -> None:
    pack_model(trained(talkative()), format="csr16").save(folder / "packed")
    code, _, err = run("transcribe", folder / "packed", folder / "a.wav", "--values", "int8")
    assert code == 2
    assert "is a packed file" in err


def collapsed() -> LSTMTransducer:
    """All weights are zero but for the bias of one label, which wins always: a recogniser that was pruned too far."""
    model = talkative()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.joint_output.bias[3] = 1
    return model


def test_transcribe_says_that_a_recogniser_emits_at_its_limit(run: Run, folder: Path) -> None:
    soundfile.write(folder / "a.wav", speech(1.0), RATE)
    save_model(folder / "collapsed", trained(collapsed()))
    code, out, err = run("transcribe", folder / "collapsed", folder / "a.wav")
    assert code == 0
    assert set(out.strip()) == {TOKENIZER.decode([3])}
    assert f"note: {folder / 'a.wav'}: the recogniser emits labels at its limit" in err
    assert json.loads(run("transcribe", folder / "collapsed", folder / "a.wav", "--json")[1])["at_limit"] is True


def test_half_of_the_labels_that_steps_allow_are_the_limit(recogniser: Recogniser) -> None:
    assert not recogniser.at_limit  # nothing is decoded yet
    recogniser.accept(speech(1.0))
    steps = recogniser.steps
    for count, at_limit in ((0, False), (steps, False), (2 * steps - 1, False), (2 * steps, True), (4 * steps, True)):
        recogniser.labels = [1] * count
        assert recogniser.at_limit == at_limit


def test_transcribe_without_a_model_says_so(run: Run, tmp_path: Path) -> None:
    code, _, err = run("transcribe", tmp_path, tmp_path / "a.wav")
    assert code == 1
    assert "no model in" in err
