"""Normalisation of transcripts: the same words give the same characters, whatever wrote them down."""

from __future__ import annotations

import unicodedata
from typing import Literal

from pydantic import Field

from cspbench.errors import CorpusError
from cspbench.hyper import Hyperparameters

Digits = Literal["keep", "spell"]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

# Default_Ignorable_Code_Point of the Unicode Character Database: characters without a glyph, as zero-width spaces,
# byte order marks, soft hyphens, joiners, direction marks and variation selectors are.
IGNORABLE = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
_REMOVED = {code: None for first, last in IGNORABLE for code in range(first, last + 1)}


class TextOptions(Hyperparameters):
    """Options for transcripts that users wrote; Unicode is composed (NFC) and invisible marks go in any case."""

    lowercase: bool = Field(True, description="lower-case the transcripts")
    digits: Digits = Field("keep", description="keep digits, or spell each as an English word (42: four two)")
    unseen_characters: Literal["refuse", "score"] = Field(
        "refuse",
        description="dev and test characters that train lacks: refuse the corpus, or score their words as errors",
    )


def normalise(text: str, *, lowercase: bool = True, digits: Digits = "keep") -> str:
    """Return a transcript in the form that training, scoring and the fingerprint use.

    Unicode is composed (NFC), characters without a glyph are removed, words are separated by single spaces.

    Args:
        text: as written.
        lowercase: lower-case it.
        digits: ``"spell"`` replaces each decimal digit of any script by its English word.

    Raises:
        CorpusError: a character that no text has, such as a control character.
    """
    for character in text:
        if _is_damage(character):
            raise CorpusError(f"transcript holds {named(character)}, which no text has; remove it")
    text = unicodedata.normalize("NFC", text.translate(_REMOVED))
    if digits == "spell":
        text = "".join(_spelt(character) for character in text)
    if lowercase:
        text = unicodedata.normalize("NFC", text.lower())
    return " ".join(text.split())


def named(character: str) -> str:
    """Name a character for a message: ``U+0308 COMBINING DIAERESIS``."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()


def printable(character: str) -> str:
    """Show a character in a message: itself where it has a glyph of its own, and its name."""
    return f"'{character}' ({named(character)})" if unicodedata.category(character)[0] in "LNPS" else named(character)


def _is_damage(character: str) -> bool:
    """True for control characters other than white space, lone surrogates, noncharacters and U+FFFD."""
    code = ord(character)
    if code == 0xFFFD or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF:
        return True
    return unicodedata.category(character) in ("Cc", "Cs") and not character.isspace()


def _spelt(character: str) -> str:
    value = unicodedata.decimal(character, None)
    return character if value is None else f" {DIGITS[value]} "
