"""Recordings: cut off, without a length, with odd samples, edges and levels, long ones, and in odd places."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import soxr

from cspbench.asr.tokenizer import CharacterTokenizer
from cspbench.bench.input_kinds.shared import check, corpus, counted, encoded, piece, problems, stats, transcribe
from cspbench.bench.input_recognisers import RATE
from cspbench.bench.inputs import Call, Input, Judge, Outcome, Workshop, accepted, refused
from cspbench.corpora.audio import read_audio
from cspbench.runtime.recogniser import Recogniser

CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "FLAC", "OGG", "CAF")
CUTS = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
SILENT = (0, 1, 80, 400, 480, 48_000)
"""Numbers of zeros without speech: none, one, 5 ms, a window, a step, 3 s."""


def streamed(data: bytes, length: int = 0xFFFFFFFF) -> bytes:
    """A WAV or FLAC as a writer to a pipe leaves it, without its length."""
    changed = bytearray(data)
    if data[:4] == b"fLaC":
        changed[21] &= 0xF0
        changed[22:42] = bytes(20)
    else:
        at = data.index(b"data") + 4
        changed[4:8] = changed[at : at + 4] = struct.pack("<I", length)
    return bytes(changed)


def cut_off(workshop: Workshop) -> Iterator[Input]:
    """Recordings that are cut off."""
    for container in CONTAINERS:
        whole = encoded(workshop.noise(1.0), container)
        for cut in CUTS:
            at = round((cut + 0.05 * workshop.random.random()) * len(whole))
            file = workshop.file("cut.audio", whole[: min(at, len(whole) - 2000)])
            told = "cut.audio: .*(cut off|cannot be read|empty|damaged)"
            yield Input(f"{container} cut at {cut:.0%}", transcribe(workshop, file), refused(told))
        file = workshop.file("whole.audio", whole)
        yield Input(f"{container}, whole", transcribe(workshop, file), accepted(r"\w"))


def headers_without_length(workshop: Workshop) -> Iterator[Input]:
    """Recordings out of a pipe, whose header states no length."""
    for seconds in (0.1, 0.5, 1.0, 2.048, 4.1):
        samples = workshop.noise(seconds)
        for container, lengths in (("FLAC", (0,)), ("WAV", (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000))):
            for length in lengths:
                data = streamed(encoded(samples, container), length)
                file = workshop.file(f"piped.{container.lower()}", data)
                name = f"{container} of {seconds} s, length {length:#x}"
                duration = accepted(rf'"seconds": {seconds:.3f}'.rstrip("0"))
                yield Input(name, transcribe(workshop, file, "--json"), duration)
                folder = corpus(workshop, [piece(data, text="so")])
                yield Input(f"{name}, in a corpus", check(folder), problems({}))
    stated = bytearray(encoded(workshop.noise(1.0)))
    stated[40:44] = bytes(4)
    file = workshop.file("a.wav", bytes(stated))
    yield Input("WAV of length 0", transcribe(workshop, file), refused("unknown length"))


def sample_values(workshop: Workshop) -> Iterator[Input]:
    """Samples that are not audio, and all that are."""
    for subtype in ("FLOAT", "DOUBLE"):
        for value in (np.nan, np.inf, -np.inf, 12345.0, -32768.0, 1e30):
            samples = workshop.noise(0.5)
            samples[workshop.random.randrange(len(samples))] = value
            data = encoded(samples, "WAV", subtype)
            name = f"{subtype} with {value}"
            told = r"the sample at \d\.\d+ s is (nan|-?inf|-?[\d.e+]+)"
            yield Input(name, transcribe(workshop, workshop.file("a.wav", data)), refused(rf"a\.wav: {told}"))
            spoilt = corpus(workshop, [piece(data)])
            yield Input(f"{name}, data check", check(spoilt), refused(rf"manifest\.jsonl:1: .*u0\.wav: {told}"))
            yield Input(f"{name}, data stats", stats(spoilt), refused(rf"manifest\.jsonl:1: .*u0\.wav: {told}"))
    for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"):
        data = encoded(workshop.noise(0.5), "WAV", subtype)
        yield Input(subtype, transcribe(workshop, workshop.file("a.wav", data)), accepted())
        yield Input(f"{subtype} in a corpus", check(corpus(workshop, [piece(data)])), problems({}))


def other_files(workshop: Workshop) -> Iterator[Input]:
    """Things that are no recording, and recordings in unusual places."""
    for name, content in {
        "empty.wav": b"",
        "text.wav": b"no audio at all\n" * 50,
        "page.flac": b"<html><body>404</body></html>",
        "noise.raw": bytes(range(256)) * 20,
        "riff.wav": b"RIFF\xff\xff\xff\xffWAVE",
        "flac.flac": b"fLaC" + bytes(200),
        "ogg.ogg": b"OggS" + bytes(30),
    }.items():
        file = workshop.file(name, content)
        yield Input(name, transcribe(workshop, file), refused(rf"{name}: (is|audio cannot)"))
    yield Input("missing", transcribe(workshop, workshop.place() / "none.wav"), refused("none.wav: no such"))
    yield Input("empty folder", transcribe(workshop, workshop.place()), refused("holds no recording"))
    full = workshop.place()
    for name in ("a.wav", "b c.flac", "ü.WAV"):
        (full / name).write_bytes(encoded(workshop.noise(0.5), "FLAC" if "flac" in name else "WAV"))
    yield Input("folder", transcribe(workshop, full), accepted(r"a\.wav\t.*\n.*b c\.flac\t.*\n.*ü\.WAV\t"))
    for container in ("WAV", "FLAC", "OGG"):
        data = encoded(workshop.noise(0.5), container)
        yield Input(f"{container} on stdin", transcribe(workshop, "-"), accepted(r"\w"), data)
        yield Input(f"half a {container} on stdin", transcribe(workshop, "-"), refused("-: "), data[: len(data) // 2])
    yield Input("nothing on stdin", transcribe(workshop, "-"), refused("is empty"), b"")
    for channels in (1, 2, 5):
        file = workshop.file("call.wav", encoded(workshop.noise(0.5, channels)))
        for channel in range(channels + 1):
            judge = accepted() if channel < channels else refused(f"not channel {channel}")
            words = transcribe(workshop, file, "--channel", str(channel))
            yield Input(f"channel {channel} of {channels}", words, judge)


def edges(workshop: Workshop) -> Iterator[Input]:
    """Speech that begins or ends in silence or is cut, at other levels and rates; no speech at all."""
    for count in (1, 2, 4, 7):
        plain = workshop.bursts(count)
        end = len(plain) - round(0.15 * RATE)
        silence = np.zeros((round(workshop.random.uniform(0.1, 1.0) * RATE), 1), np.float32)
        changed = {
            "plain": plain,
            "silence before": np.concatenate([silence, plain]),
            "silence after": np.concatenate([plain, silence]),
            "silence around": np.concatenate([silence, plain, silence]),
            "cut at the last sample of speech": plain[:end],
            "20 dB quieter": 0.1 * plain,
            "30 dB quieter": 0.03 * plain,
            "6 dB louder": 2 * plain,
            "12 dB louder and clipped": (4 * plain).clip(-1, 1),
            "20 dB quieter, silence before, cut": np.concatenate([silence, 0.1 * plain[:end]]),
            "off centre": plain + 0.05,
        }
        for name, samples in changed.items():
            for subtype in ("PCM_16", "FLOAT"):
                file = workshop.file("a.wav", encoded(samples, "WAV", subtype))
                yield Input(f"{count} bursts, {name}, {subtype}", counted(workshop, file), says(count))
        for rate in (8000, 44_100, 48_000):
            file = workshop.file("a.flac", encoded(soxr.resample(plain, RATE, rate), "FLAC", rate=rate))
            yield Input(f"{count} bursts at {rate} Hz", counted(workshop, file), says(count))
    for length in SILENT:
        for value in (0.0, 0.5) if length <= SILENT[2] else (0.0,):
            file = workshop.file("a.wav", encoded(np.full((length, 1), value, np.float32)))
            yield Input(f"{length} samples of {value}", counted(workshop, file), says(0))


def says(count: int) -> Judge:
    """`counted` prints an ``a`` for each of so many bursts."""
    return accepted(rf"\A{' '.join('a' * count)} ?\n\Z")


def growth(workshop: Workshop) -> Iterator[Input | Call]:
    """Long recordings: what is printed, and what is decoded for it, grows with them and no faster."""
    for count in (1, 5, 20, 60):
        file = workshop.file("a.wav", encoded(workshop.bursts(count)))
        yield Input(f"{count} bursts", counted(workshop, file), says(count))
        yield Input(f"{count} bursts, streamed", counted(workshop, file, "--stream", "--json"), only_new(count))
        yield Call(f"{count} bursts, labels decoded", partial(_decoded_once, workshop, file, count))


def only_new(count: int) -> Judge:
    """A stream prints new text alone, an event for each label at most, and all of the text at its end."""

    def judge(found: Outcome) -> str | None:
        events = [json.loads(line) for line in found.out.splitlines()]
        new, text = "".join(event["new"] for event in events), events[-1]["text"]
        if new != text or text.split() != ["a"] * count:
            return f"printed {new!r} in pieces and {text!r} at the end"
        if len(events) > 2 * count + 1 or any("text" in event for event in events[:-1]):
            return f"{len(events)} events for {count} bursts"
        return None

    return judge


class _Counting(CharacterTokenizer):
    """Counts the labels that it turns into text."""

    decoded = 0

    def decode(self, ids: Sequence[int]) -> str:
        self.decoded += len(ids)
        return super().decode(ids)


def _decoded_once(workshop: Workshop, file: Path, count: int) -> str | None:
    """Every label is turned into text once, however many follow."""
    recogniser = Recogniser.load(workshop.counter)
    recogniser.tokenizer = tokenizer = _Counting(" a")
    samples, _ = read_audio(file)
    for start in range(0, len(samples), 480):
        recogniser.accept(samples[start : start + 480])
    text = recogniser.finish()
    if tokenizer.decoded != len(recogniser.labels) or text.split() != ["a"] * count:
        return f"{tokenizer.decoded} labels decoded for {text!r}"
    return None
