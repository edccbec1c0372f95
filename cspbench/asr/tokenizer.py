"""Text to label ids and back. Id 0 is the transducer's blank and never part of a text."""

from __future__ import annotations

import base64
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import sentencepiece

from cspbench.corpora.base import Utterance
from cspbench.errors import CorpusError
from cspbench.spec import TokenizerSpec

BLANK = 0

WORD_START = "\u2581"
"""Sentencepiece writes it for a space."""

MAX_SYMBOLS = 4
"""Labels emitted in one frame at most; a 30 ms frame holds fewer characters than that."""


class Tokenizer(ABC):
    """Maps texts to ids in [1, size) and back."""

    size: int

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of a text; raises ValueError naming the first character that has none."""

    @abstractmethod
    def encode_known(self, text: str) -> list[int]:
        """Ids of a text without the characters that have none."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Inverse of `encode`."""

    @abstractmethod
    def decode_more(self, ids: Sequence[int], text: str) -> str:
        """Text that more ids add to `text`: ``decode(a + b) == decode(a) + decode_more(b, decode(a))``."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """JSON value from which `load_tokenizer` makes an equal tokenizer."""


class CharacterTokenizer(Tokenizer):
    """One unit a character; the alphabet is what the training texts hold."""

    def __init__(self, characters: str) -> None:
        self.characters = characters
        self.size = len(characters) + 1
        self._ids = {c: i for i, c in enumerate(characters, start=1)}

    def encode(self, text: str) -> list[int]:
        unknown = next((c for c in text if c not in self._ids), None)
        if unknown is not None:
            raise ValueError(f"character {unknown!r} is not in the vocabulary {self.characters!r}")
        return [self._ids[c] for c in text]

    def encode_known(self, text: str) -> list[int]:
        return [self._ids[c] for c in text if c in self._ids]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.characters[i - 1] for i in ids)

    def decode_more(self, ids: Sequence[int], text: str) -> str:
        return self.decode(ids)

    def state(self) -> dict[str, Any]:
        return {"kind": "character", "characters": self.characters}


class SentencePieceTokenizer(Tokenizer):
    """Unigram word pieces. Piece k of the model is id k: its unknown piece takes id 0, which no text may use."""

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.size = self._pieces.get_piece_size()

    def encode(self, text: str) -> list[int]:
        ids = self._pieces.encode(text)
        if BLANK in ids:
            raise ValueError(f"{text!r} holds a character that no training text has")
        return ids

    def encode_known(self, text: str) -> list[int]:
        return [i for i in self._pieces.encode(text) if i != BLANK]

    def decode(self, ids: Sequence[int]) -> str:
        return self.decode_more(ids, "")

    def decode_more(self, ids: Sequence[int], text: str) -> str:
        more = "".join(self._pieces.id_to_piece(int(i)) for i in ids).replace(WORD_START, " ")
        return more if text else more.lstrip(" ")

    def state(self) -> dict[str, Any]:
        return {"kind": "sentencepiece", "model": base64.b64encode(self._model).decode()}


def train_tokenizer(spec: TokenizerSpec, texts: Iterable[str]) -> Tokenizer:
    """Make the tokenizer a spec asks for from the training texts."""
    texts = list(texts)
    if spec.kind == "character":
        return CharacterTokenizer("".join(sorted(set("".join(texts)))))
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=spec.vocab_size,
            model_type="unigram",
            character_coverage=1.0,
            max_sentence_length=1 << 24,  # bytes; longer texts would be left out in silence
            normalization_rule_name="identity",  # texts are normalised; a unit must be spelt as the reference is
            unk_id=BLANK,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise CorpusError(
            f"sentencepiece cannot make {spec.vocab_size} pieces from {len(texts)} training texts; "
            f"lower model.tokenizer.vocab_size or use the character tokenizer ({error})"
        ) from error
    return SentencePieceTokenizer(model.getvalue())


def load_tokenizer(state: dict[str, Any]) -> Tokenizer:
    """Rebuild a tokenizer from its `state`."""
    if state["kind"] == "character":
        return CharacterTokenizer(state["characters"])
    return SentencePieceTokenizer(base64.b64decode(state["model"]))


def check_texts(tokenizer: Tokenizer, utterances: Iterable[Utterance], shown: int = 10) -> None:
    """Raise one CorpusError that names every transcript (the first `shown`) the tokenizer cannot spell."""
    problems = []
    for utterance in utterances:
        try:
            tokenizer.encode(utterance.text)
        except ValueError as error:
            problems.append(f"{utterance.origin}: utterance '{utterance.id}' ({utterance.split}): {error}")
    if problems:
        more = [f"... and {len(problems) - shown} more"] if len(problems) > shown else []
        remedy = "Correct these transcripts, or add training utterances that use the characters."
        raise CorpusError("\n".join([*problems[:shown], *more, remedy]))
