"""Corpora: transcripts, segments and channels, files that differ from the others, lines of every shape."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from cspbench.bench.input_kinds.shared import check, corpus, encoded, piece, problems, stats
from cspbench.bench.input_recognisers import RATE
from cspbench.bench.inputs import Input, Workshop, accepted, refused
from cspbench.corpora.text import IGNORABLE, printable

WORDS = ("größe", "naïve", "señor", "žluťoučký", "ångström", "việt", "한국어", "καλημέρα", "İstanbul", "ﬁn")


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
