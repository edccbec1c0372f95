"""Sentences and synthetic voices of the embedded corpus: short commands to a smart home."""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

from cspbench.corpora.utterance import Split

WORDS = (
    "go", "stop", "left", "right", "up", "down", "open", "close", "light", "door", "music", "timer",
    "one", "two", "three", "four", "five", "six", "seven", "nine",
)  # fmt: skip
LENGTHS = (2, 3)

# Every variant is a timbre of its own and belongs to one split; all accents are in every split.
ACCENTS = ("en-us", "en", "en-gb-x-rp", "en-gb-scotland")
VARIANTS: dict[Split, tuple[str, ...]] = {
    "train": (
        "m1", "f1", "m2", "f2", "m3", "f4", "m4", "Annie", "m5", "belinda", "m6", "steph", "m8", "Alicia", "john",
        "aunty", "paul", "anika", "robert", "adam", "david", "max", "michel", "edward", "caleb", "travis", "miguel",
        "Denis", "Hugo", "Marco", "Mike", "Jacky", "Reed", "victor", "norbert", "gustave",
    ),
    "dev": ("m7", "f5", "Andy", "steph2", "ian", "Gene"),
    "test": ("f3", "linda", "Andrea", "steph3", "Alex", "rob", "pablo", "marcelo", "shelby", "Lee", "Michael", "zac"),
}  # fmt: skip


class Voice(NamedTuple):
    """A synthetic speaker; `pitch` is espeak's 0-99, `speed` words a minute."""

    name: str
    pitch: int
    speed: int


def sentences() -> list[str]:
    """Every sequence of different words, once, in a fixed order.

    There are thousands: so few are said twice in training that a recogniser must learn words, not sentences.
    """
    return [" ".join(words) for length in LENGTHS for words in permutations(WORDS, length)]


def voices(split: Split) -> list[Voice]:
    """The voices of one split: each variant with an accent, a pitch and a speed of its own."""
    return [
        Voice(f"{ACCENTS[i % len(ACCENTS)]}+{variant}", 35 + 13 * i % 31, 160 + 17 * i % 41)
        for i, variant in enumerate(VARIANTS[split])
    ]
