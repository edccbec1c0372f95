"""Cross-validation over speakers: every speaker is tested once, none is in two splits."""

from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from cspbench.corpora import load_corpus
from cspbench.corpora.carve import refold
from cspbench.corpora.utterance import SPLITS, Utterance
from cspbench.errors import CorpusError
from cspbench.spec import CorpusSpec, Fold


def said_by(*speakers: str) -> list[Utterance]:
    return [
        Utterance(f"{speaker}-{index}", Path(f"{index}.wav"), 1.0, speaker, "one", SPLITS[index % 3], f"list:{index}")
        for index, speaker in enumerate(speakers)
    ]


def test_every_speaker_is_tested_in_one_fold_and_in_dev_in_another() -> None:
    utterances = said_by(*"aaabbbccddeefg")
    tested, developed = Counter(), Counter()
    for index in range(3):
        divided = refold(utterances, Fold(index=index, of=3))
        assert [u.id for u in divided] == [u.id for u in utterances]
        by_split = {split: {u.speaker for u in divided if u.split == split} for split in SPLITS}
        assert not by_split["test"] & by_split["dev"]
        assert not by_split["train"] & (by_split["test"] | by_split["dev"])
        tested.update(by_split["test"])
        developed.update(by_split["dev"])
    assert tested == developed == Counter("abcdefg")


def test_folds_are_about_equally_large_and_do_not_depend_on_the_order_of_files() -> None:
    utterances = said_by(*"aaaabbbbccccddddeeeeffff")
    for index in range(3):
        divided = refold(utterances, Fold(index=index, of=3))
        assert sum(u.split == "test" for u in divided) == 8
        again = refold(utterances[::-1], Fold(index=index, of=3))
        assert {u.id: u.split for u in again} == {u.id: u.split for u in divided}


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(CorpusError, match="2 speakers cannot be divided into 3 folds"):
        refold(said_by("a", "b"), Fold(index=0, of=3))
    with pytest.raises(CorpusError, match="name none"):
        refold(said_by("a", "b", ""), Fold(index=0, of=3))
    with pytest.raises(ValidationError, match="the last is number 2"):
        Fold(index=3, of=3)


def test_the_fold_is_part_of_what_a_corpus_is_only_where_there_is_one() -> None:
    plain = CorpusSpec(name="an4", path="x")
    assert "fold" not in plain.identity()
    assert CorpusSpec(name="an4", path="x", fold=Fold(index=1, of=5)).identity()["fold"] == {"index": 1, "of": 5}


def test_fsdd_by_fold(fsdd_path: Path, tmp_path: Path) -> None:
    options = {"train": 40, "dev": 10, "test": 10, "speaker_disjoint": True}
    spec = CorpusSpec(name="fsdd", path=str(fsdd_path), options=options)
    tested = set()
    for index in range(6):
        corpus = load_corpus(spec.model_copy(update={"fold": Fold(index=index, of=6)}), tmp_path)
        assert [len(corpus.split(split)) for split in SPLITS] == [40, 10, 10]
        tested |= {u.speaker for u in corpus.split("test")}
    assert len(tested) == 6
