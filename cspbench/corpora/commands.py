"""Sentences a person might say to the devices of a house, and the synthetic voices that say them."""

from __future__ import annotations

import re
from itertools import product
from typing import NamedTuple

from cspbench.corpora.utterance import Split

SLOTS: dict[str, tuple[str, ...]] = {
    "switch": ("on", "off", "up", "down"),
    "shut": ("open", "close", "lock"),
    "room": ("kitchen", "bedroom", "bathroom", "garage", "office", "garden"),
    "device": ("lights", "heater", "fan", "radio"),
    "opening": ("door", "window"),
    "number": ("two", "five", "seven", "ten", "twelve", "twenty"),
    "unit": ("seconds", "minutes", "hours"),
    "music": ("jazz", "rock", "piano music", "the news", "a story"),
    "weather": ("rain", "snow"),
    "day": ("today", "tomorrow", "on monday", "on friday"),
    "person": ("mother", "father", "anna", "peter"),
    "manner": ("now", "later", "at work", "on monday"),
}
TEMPLATES = (
    "turn {switch} the {room} {device}",
    "{shut} the {room} {opening}",
    "set the {room} heater to {number}",
    "wait {number} {unit}",
    "play {music} in the {room}",
    "will it {weather} {day}",
    "call {person} {manner}",
)

# Every variant is a timbre of its own and belongs to one split; all accents are heard in every split.
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
    """Every sentence of the grammar, once, in a fixed order."""
    found = [
        template.format(**dict(zip(slots, words, strict=True)))
        for template in TEMPLATES
        for slots in [re.findall(r"{(\w+)}", template)]
        for words in product(*(SLOTS[slot] for slot in slots))
    ]
    return list(dict.fromkeys(found))


def voices(split: Split) -> list[Voice]:
    """The voices of one split: each variant with an accent, a pitch and a speed of its own."""
    return [
        Voice(f"{ACCENTS[i % len(ACCENTS)]}+{variant}", 35 + 13 * i % 31, 160 + 17 * i % 41)
        for i, variant in enumerate(VARIANTS[split])
    ]
