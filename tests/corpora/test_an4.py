from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from support.corpus_trees import cmu_tree, load

from cspbench.corpora import Corpus
from cspbench.errors import CorpusError


@pytest.fixture(scope="module")
def cmu_path(an4_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cmu_tree(an4_path, tmp_path_factory.mktemp("cmu") / "an4")


def speakers(corpus: Corpus, split: str) -> set[str]:
    return {u.speaker for u in corpus.utterances if u.split == split}


def test_published_counts_and_speakers(an4_path: Path, tmp_path: Path) -> None:
    corpus = load("an4", an4_path, tmp_path)
    counts = Counter(u.split for u in corpus.utterances)
    assert counts["test"] == 130
    assert counts["train"] + counts["dev"] == 948
    assert len(speakers(corpus, "dev")) == 7  # a tenth of 74
    assert not speakers(corpus, "train") & speakers(corpus, "dev")
    assert len(speakers(corpus, "test")) == 10
    assert corpus.sample_rate == 16000
    assert not corpus.synthetic


def test_cmu_layout_gives_the_same_utterances(an4_path: Path, cmu_path: Path, tmp_path: Path) -> None:
    ours, cmu = load("an4", an4_path, tmp_path), load("an4", cmu_path, tmp_path)
    assert [(u.id, u.text, u.speaker, u.split) for u in ours.utterances] == [
        (u.id, u.text, u.speaker, u.split) for u in cmu.utterances
    ]
    assert cmu.utterances[0].audio.suffix == ".wav"


def test_layout_is_found_in_the_folder_above(cmu_path: Path, tmp_path: Path) -> None:
    assert load("an4", cmu_path.parent, tmp_path) == load("an4", cmu_path, tmp_path)


def test_dev_depends_on_the_seed_alone(an4_path: Path, tmp_path: Path) -> None:
    first, again, other = (load("an4", an4_path, tmp_path, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert speakers(first, "dev") != speakers(other, "dev")
    assert len(speakers(load("an4", an4_path, tmp_path, dev_share=0.5), "dev")) == 37


def test_cmu_problems_are_named_with_their_lines(cmu_path: Path, tmp_path: Path) -> None:
    transcripts = cmu_path / "etc" / "an4_test.transcription"
    whole = transcripts.read_text()
    lines = whole.splitlines()
    lost = lines[4].rpartition("(")[2].rstrip(")")
    lines[2], lines[3] = "WORDS WITHOUT ID", "YES (an999-none-b)"
    transcripts.write_text("\n".join(lines[:4] + lines[5:]))
    try:
        with pytest.raises(CorpusError) as caught:
            load("an4", cmu_path, tmp_path)
    finally:
        transcripts.write_text(whole)
    message = str(caught.value)
    assert "an4_test.transcription:3: not of the form" in message
    assert "an4_test.transcription:4: 'an999-none-b' is not listed" in message
    assert f"has no line for '{lost}'" in message


def test_fileids_may_not_leave_the_corpus(cmu_path: Path, tmp_path: Path) -> None:
    fileids = cmu_path / "etc" / "an4_test.fileids"
    whole = fileids.read_text()
    fileids.write_text(whole + "../../secret\n")
    try:
        with pytest.raises(CorpusError, match=r"an4_test.fileids:131: '../../secret' leads out of wav"):
            load("an4", cmu_path, tmp_path)
    finally:
        fileids.write_text(whole)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"not AN4; expected manifest.jsonl"):
        load("an4", tmp_path, tmp_path)
