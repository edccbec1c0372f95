"""The kinds of inputs that `cspbench bench inputs` tries."""

from __future__ import annotations

import io
import json
import re
import struct
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from cspbench.bench.inputs import RATE, Input, Judge, Outcome, Workshop, accepted, refused
from cspbench.corpora.text import IGNORABLE, printable

CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "NIST", "FLAC", "OGG", "CAF")
CUTS = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
WORDS = ("größe", "naïve", "señor", "žluťoučký", "ångström", "việt", "한국어", "καλημέρα", "İstanbul", "ﬁn")


def encoded(samples: np.ndarray, container: str = "WAV", subtype: str | None = None, rate: int = RATE) -> bytes:
    """A recording in a container."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=container, subtype=subtype)
    return buffer.getvalue()


def transcribe(workshop: Workshop, file: Path | str, *more: str) -> list[str]:
    """The command that prints the text of a recording."""
    return ["transcribe", str(workshop.model), str(file), *more]


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


def piece(data: bytes, **fields: Any) -> dict[str, Any]:
    """A manifest row with the bytes of its recording."""
    return {"data": data} | fields


def corpus(workshop: Workshop, rows: list[Any], order: tuple[str, ...] = ("train", "train", "dev", "test")) -> Path:
    """A folder with a manifest: rows (dicts with `data`, or lines), then sound ones, up to all of `order`."""
    folder = workshop.place()
    lines = []
    for index in range(max(len(rows), len(order))):
        given = rows[index] if index < len(rows) else {}
        if isinstance(given, str):
            lines.append(given)
            continue
        fields = dict(given)
        data = fields.pop("data", None)
        (folder / f"u{index}.wav").write_bytes(encoded(workshop.noise(0.5)) if data is None else data)
        base = {"audio": f"u{index}.wav", "text": "some words", "split": order[min(index, len(order) - 1)]}
        lines.append(json.dumps({key: value for key, value in (base | fields).items() if value is not ...}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def check(folder: Path, *more: str) -> list[str]:
    """The command that lists the problems of a corpus."""
    return ["data", "check", str(folder), "--root", str(folder / "runs"), "--json", *more]


def stats(folder: Path) -> list[str]:
    """The command that describes a corpus."""
    return ["data", "stats", "manifest", "--path", str(folder), "--root", str(folder / "runs"), "--json"]


def problems(kinds: dict[str, int], *patterns: str) -> Judge:
    """`data check` finds problems of these kinds and numbers, and its examples match the patterns."""

    def judge(found: Outcome) -> str | None:
        summary = json.loads(found.out)
        counted = {group["kind"]: group["count"] for group in summary["problems"]}
        if counted != kinds:
            return f"found {summary['problems']}, not {kinds}"
        if bool(summary["problems"]) != (found.code != 0):
            return f"exit code {found.code} with {summary['problems']}"
        examples = "\n".join(example for group in summary["problems"] for example in group["examples"])
        missing = [pattern for pattern in patterns if not re.search(pattern, examples)]
        return f"{examples!r} lacks {missing}" if missing else None

    return judge


def text(workshop: Workshop) -> Iterator[Input]:
    """Transcripts in other Unicode forms, with invisible and with damaged characters."""
    for word in WORDS:
        forms = [unicodedata.normalize(form, word) for form in ("NFC", "NFD", "NFC", "NFD")]
        folder = corpus(workshop, [{"text": form} for form in forms])
        yield Input(f"'{word}' in two forms", check(folder), problems({}))
    for first, last in IGNORABLE:
        mark = chr(workshop.random.randint(first, last))
        rows = [{"text": words} for words in ("some words", f"so{mark}me words", f"some {mark}words", "some words")]
        name = f"U+{ord(mark):04X}"
        yield Input(name, check(corpus(workshop, rows), "--option", "lowercase=true"), problems({}))
        judge = accepted(r'"characters": " demorsw"')
        yield Input(f"{name}, data stats", stats(corpus(workshop, rows)), judge)
    for code in (0, 1, 7, 8, 0x1B, 0x7F, 0x80, 0x9F, 0xFFFD, 0xFFFF, 0xFDD0, 0x1FFFE):
        at = workshop.random.randrange(3)
        rows = [{}] * at + [{"text": f"bad {chr(code)} mark"}]
        told = rf"manifest\.jsonl:{at + 1}: transcript holds U\+{code:04X}"
        yield Input(f"U+{code:04X}", check(corpus(workshop, rows)), refused(told))
    for half in ("\\ud800", "\\udfff"):
        line = f'{{"audio": "u0.wav", "text": "lone {half}", "split": "train"}}'
        yield Input(half, check(corpus(workshop, [line])), refused("manifest.jsonl:1: holds half of a surrogate"))
    for letter in "äßçñ5€":
        folder = corpus(workshop, [{}, {}, {}, {"text": f"some {letter}words"}])
        told = rf"manifest\.jsonl:4: test has {re.escape(printable(letter))}"
        yield Input(f"unseen {letter}", check(folder), problems({"unseen characters": 1}, told))
        scored = check(folder, "--option", "unseen_characters=score")
        yield Input(f"unseen {letter}, scored", scored, problems({}))


def segments(workshop: Workshop) -> Iterator[Input]:
    """Segments of long recordings, channels, noise without words, text too dense."""
    long = encoded(workshop.noise(6.0))
    for _ in range(12):
        offset = round(workshop.random.uniform(0, 4), 3)
        duration = round(workshop.random.uniform(0.5, 5.9 - offset), 3)
        row = piece(long, offset=offset, duration=duration)
        yield Input(f"{duration} s from {offset}", check(corpus(workshop, [row])), problems({}))
        late = piece(long, offset=offset, duration=6.2 - offset + workshop.random.random())
        judge = problems({"duration": 1}, r"manifest\.jsonl:1: .*the segment ends at")
        yield Input("segment beyond the end", check(corpus(workshop, [late])), judge)
    values: tuple[Any, ...] = (-1, "1", True, [], {}, float("nan"), float("inf"), 1e12, 10**400)
    for field in ("offset", "duration", "channel"):
        for value in values:
            told = rf"manifest\.jsonl:1: {field} "
            row = piece(long, **({"offset": 1.0} | {field: value}))
            yield Input(f"{field} {str(value)[:20]}", check(corpus(workshop, [row])), refused(told))
    stereo = encoded(workshop.noise(0.5, 2))
    yield Input("stereo", check(corpus(workshop, [piece(stereo)])), refused("has 2 channels; name one"))
    for channel in (0, 1):
        yield Input(f"side {channel}", check(corpus(workshop, [piece(stereo, channel=channel)])), problems({}))
    yield Input("side 2", check(corpus(workshop, [piece(stereo, channel=2)])), refused("has no channel 2"))
    noise_alone = [{}, {}, {}, {}, {"text": ""}]
    yield Input("noise in test", check(corpus(workshop, noise_alone)), problems({}))
    empty = check(corpus(workshop, [{"text": " "}]))
    yield Input("noise in train", empty, problems({"transcript": 1}, "manifest.jsonl:1: empty transcript"))
    for letters in (30, 44, 200):
        row = piece(encoded(workshop.noise(0.1)), text="mores word" * (letters // 10))
        judge = problems({"transcript": 1}, r"jsonl:1: \d+ characters in")
        yield Input(f"{letters} letters in 0.1 s", check(corpus(workshop, [row])), judge)


def first_files(workshop: Workshop) -> Iterator[Input]:
    """Corpora in which a few files differ from the others, wherever they stand."""
    for wrong in ({0}, {2}, {0, 1}, {3, 5}, {0, 4, 6}):
        rows = [piece(encoded(workshop.noise(0.5), rate=8000 if i in wrong else RATE)) for i in range(8)]
        judge = problems({"sample rate": len(wrong)}, rf"jsonl:{min(wrong) + 1}: .*8000 Hz where the corpus has 16000")
        order = ("train", "train", "train", "dev", "dev", "test")
        yield Input(f"8 kHz in lines {wrong}", check(corpus(workshop, rows, order)), judge)
        rows = [{"audio": "gone.wav"} if i in wrong else {} for i in range(8)]
        told = [rf"jsonl:{i + 1}: .*gone\.wav: no such audio file" for i in wrong]
        yield Input(f"missing in lines {wrong}", check(corpus(workshop, rows, order)), refused(*told))
        rows = [{"split": ...} if i in wrong else {} for i in range(8)]
        told = [rf"jsonl:{i + 1}: no field 'split'.*one file a split" for i in wrong]
        yield Input(f"no split in lines {wrong}", check(corpus(workshop, rows, order)), refused(*told))
    copy = encoded(workshop.noise(0.5))
    rows = [piece(copy), {}, {}, piece(copy)]
    yield Input("one recording in two splits", check(corpus(workshop, rows)), problems({"audio in several splits": 1}))


def lines(workshop: Workshop) -> Iterator[Input]:
    """Manifest lines of every other shape."""
    for line in (
        "{oops", "[]", "7", "null", '"text"', "{}", '{"audio": 3}', '{"audio": "u1.wav"}', '{"text": "a"}',
        '{"audio": "", "text": "a", "split": "train"}', '{"audio": "../u1.wav", "text": "a", "split": "train"}',
        '{"audio": "u1.wav", "text": null, "split": "train"}', '{"audio": "u1.wav", "text": "a", "split": "training"}',
        '{"audio": "u1.wav", "text": "a", "text": "b", "split": "train"}', "[" * 5000,
        '{"audio": "u1.wav", "text": "a", "split": "train", "speaker": {}}',
        '{"audio": "u1.wav", "text": "a", "split": "train", "id": "a\\nb"}',
        '{"audio": "u\\u0000.wav", "text": "a", "split": "train"}',
        '{"audio": "\\ud800.wav", "text": "a", "split": "train"}',
        '{"audio": ".", "text": "a", "split": "train"}', '{"audio": "/", "text": "a", "split": "train"}',
    ):  # fmt: skip
        yield Input(line[:60], check(corpus(workshop, [line])), refused(r"manifest\.jsonl:1: "))


KINDS: dict[str, Callable[[Workshop], Iterator[Input]]] = {
    "K3 cut off": cut_off,
    "K3 streamed headers": headers_without_length,
    "K5 text": text,
    "K6 sample values": sample_values,
    "K11 segments and channels": segments,
    "K12 first files": first_files,
    "K12 lines": lines,
    "K15 other files": other_files,
}
