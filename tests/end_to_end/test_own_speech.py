"""Speech in the forms people keep it goes through training, evaluation and latency."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support.corpus_trees import write_manifest

from cspbench.errors import CorpusError
from cspbench.spec import CorpusSpec, DenseSpec, FeatureSpec, LatencySpec, MethodSpec, ModelSpec, TrainSpec, TrialSpec
from cspbench.store import Store
from cspbench.trials.run import run_trial, train_dense

RATE = 8000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stereo recording of 20 s a split, with segments on both channels; test holds noise and other letters."""
    rows: list[Any] = []
    for index, split in enumerate(("train", "dev", "test")):
        noise = np.random.default_rng(index).normal(size=(20 * RATE, 2)) * 0.05
        soundfile.write(tmp_path / f"{split}.flac", noise, RATE)
        rows += [
            {
                "audio": f"{split}.flac",
                "offset": 2.0 * i,
                "duration": 1.5,
                "channel": i % 2,
                "text": "an",
                "split": split,
            }
            for i in range(10)
        ]
    rows[-1]["text"], rows[-2]["text"] = "", "än an"
    write_manifest(tmp_path / "manifest.jsonl", rows)
    return tmp_path


def dense(folder: Path, unseen: str) -> DenseSpec:
    options = {"unseen_characters": unseen, "speaker_disjoint": False}
    return DenseSpec(
        corpus=CorpusSpec(name="manifest", path=str(folder), options=options),
        features=FeatureSpec(mels=16),
        model=ModelSpec(preset="tiny", dropout=0.0),
        training=TrainSpec(epochs=1, batch_size=4),
    )


def test_segments_noise_and_unseen_characters_are_scored(folder: Path) -> None:
    store = Store(folder / "runs")
    spec = TrialSpec(
        dense=dense(folder, "score"),
        method=MethodSpec(name="magnitude"),
        sparsity=0.5,
        training=TrainSpec(epochs=1, batch_size=4),
        latency=LatencySpec(utterances=2, warmup=0, repeats=1),
    )
    result = run_trial(spec, store)
    assert (result.test.utterances, result.test.words) == (10, 10)
    assert result.latency.packed.steps == 2 * (((1500 - 25) // 10 + 1) // 3)
    rows = [json.loads(line) for line in store.trial(spec.id).hypotheses.read_text().splitlines()]
    assert [row["words"] for row in rows] == [1] * 8 + [2, 0]
    assert rows[8]["edits"] >= 1
    assert rows[9]["edits"] == len(rows[9]["hypothesis"].split())
    assert all(np.isfinite(row["loss"]) for row in rows)


def test_unseen_characters_are_refused_with_their_lines_unless_told_otherwise(folder: Path) -> None:
    with pytest.raises(CorpusError, match=r"manifest.jsonl:29: .*'test.*character 'ä' is not in the vocab"):
        train_dense(dense(folder, "refuse"), Store(folder / "runs"))
