"""Write the SYNTHETIC corpus as manifests, to be read like a corpus of one's own.

python analysis/compare_corpus/write_manifest.py runs/synthetic_manifest
cspbench compare sweeps/compare_corpus.yaml
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cspbench.corpora.base import load_corpus
from cspbench.corpora.utterance import SPLITS
from cspbench.spec import CorpusSpec


def write(folder: Path) -> None:
    """Write ``train.jsonl``, ``dev.jsonl`` and ``test.jsonl`` into a folder, which is made, and audio below it."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = load_corpus(CorpusSpec(name="spoken_commands"), folder / "audio")
    for split in SPLITS:
        rows = [
            {
                "audio_filepath": str(utterance.audio.relative_to(folder)),
                "duration": utterance.duration,
                "text": utterance.text,
                "speaker": utterance.speaker,
            }
            for utterance in corpus.utterances
            if utterance.split == split
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
