"""A sweep file for a corpus, written from what the corpus holds."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cspbench.corpora import Corpus
from cspbench.corpora.utterance import SPLITS
from cspbench.spec import CorpusSpec

STEPS = 4500
"""Optimiser steps of a dense training: about those after which the recognisers of an4, fsdd and rnnt.yaml converge."""
FEWEST_EPOCHS, MOST_EPOCHS = 12, 120
PRUNING = 6
"""Dense epochs for each epoch of the pruning run."""
FEW_WORDS = 1000
"""Words of test below which the interval of a WER is named."""
LONG_SECONDS = 30.0


@dataclass(frozen=True)
class Advice:
    """Settings that suit a corpus, and what to mind.

    Attributes:
        preset: of the model.
        tokenizer: ``character`` or ``sentencepiece``.
        batch_size: utterances a step.
        steps_an_epoch: that many utterances make.
        dense_epochs: of the dense training.
        prune_epochs: of the run in which a method prunes.
        mask_time: false where utterances are so short that time masks would hide whole words.
        notes: sentences for a person.
    """

    preset: str
    tokenizer: str
    batch_size: int
    steps_an_epoch: int
    dense_epochs: int
    prune_epochs: int
    mask_time: bool
    notes: tuple[str, ...]


def advise(corpus: Corpus) -> Advice:
    """Choose settings by the hours of training speech, the length of utterances and the size of the test split."""
    train = corpus.split("train")
    hours = sum(u.duration for u in train) / 3600
    batch_size = 8 if hours < 2 and len(train) > 1000 else 16
    steps = math.ceil(len(train) / batch_size)
    dense = min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(STEPS / steps)))
    words = {word for u in train for word in u.text.split()}
    return Advice(
        preset="paper" if hours > 50 else "tiny" if hours < 1.5 and len(words) < 50 else "small",
        tokenizer="sentencepiece" if hours > 50 else "character",
        batch_size=batch_size,
        steps_an_epoch=steps,
        dense_epochs=dense,
        prune_epochs=max(2, round(dense / PRUNING)),
        mask_time=3600 * hours / len(train) > 2.0,
        notes=tuple(_notes(corpus, hours)),
    )


def _notes(corpus: Corpus, hours: float) -> Iterator[str]:
    if hours < 0.3:
        yield f"{60 * hours:.0f} minutes of training speech are very few: expect a dense WER far from zero"
    words = sum(len(u.text.split()) for u in corpus.split("test"))
    if words < FEW_WORDS:
        points = 196 * math.sqrt(0.1 * 0.9 / max(words, 1))
        yield f"test has {words} words: a WER of 10 % is known to ±{points:.1f} points; smaller differences are noise"
    spoken = {split: {u.speaker for u in corpus.split(split)} - {""} for split in ("train", "test")}
    if shared := spoken["train"] & spoken["test"]:
        yield f"{len(shared)} speakers of test are in train too: the WER says little about new voices"
    if not spoken["test"]:
        yield "speakers are not named: tests of significance over speakers are not possible"
    longest = max(u.duration for u in corpus.utterances)
    if longest > LONG_SECONDS:
        yield f"the longest utterance has {longest:.0f} s: its batch needs much memory; cut it, or use smaller batches"


def sweep_template(name: str, spec: CorpusSpec, corpus: Corpus, advice: Advice) -> str:
    """Return the text of a sweep file, with comments.

    Args:
        name: of the study.
        spec: the corpus as a person named it: path and options that are not defaults.
        corpus: what it holds.
        advice: the settings.
    """
    minutes = sum(u.duration for u in corpus.split("train")) / 60
    rates = "[0.9, 1.0, 1.1]"
    time_masks = "time_masks: 1" if advice.mask_time else "time_masks: 0"
    counts = ", ".join(f"{len(corpus.split(split))} utterances in {split}" for split in SPLITS)
    facts = f"{counts}, {minutes:.0f} minutes of training speech{', synthetic' if corpus.synthetic else ''}"
    dense_steps, prune_steps = (advice.steps_an_epoch * n for n in (advice.dense_epochs, advice.prune_epochs))
    lines = [
        *_comment(f"Pruning methods on {corpus.name}: {facts}. Made by `cspbench init`: change what you like."),
        *(line for note in advice.notes for line in _comment(f"Mind: {note}.")),
        f"#   cspbench sweep {name}.yaml",
        f"name: {name} # of the study: `cspbench results {name}`",
        *_corpus_lines(spec),
        "features: {level_follows_background: true} # for streams that begin in mid-speech",
        f"model: {{preset: {advice.preset}{_tokenizer(advice)}}} # tiny, small or paper",
        "dense: # the recogniser that all trials start from; trained once",
        f"  epochs: {advice.dense_epochs} # {dense_steps} steps; more where dev WER still falls at the end",
        f"  batch_size: {advice.batch_size}",
        "  ctc_weight: 0.5 # an auxiliary loss that finds the alignment of small corpora sooner",
        f"  evaluate_every: {max(1, advice.dense_epochs // 12)} # epochs between decodings of dev",
        f"  augment: {{speeds: {rates}, {time_masks}, start_epoch: {advice.dense_epochs // 8}}}",
        "prune: # the run in which a method prunes; the control gets the same, without pruning",
        f"  epochs: {advice.prune_epochs} # {prune_steps} steps a trial",
        f"  batch_size: {advice.batch_size}",
        "  learning_rate: 1e-3",
        "  ctc_weight: 0.5",
        f"  augment: {{speeds: {rates}, {time_masks}}}",
        "sparsity: [0.5, 0.75, 0.9] # fractions of zeros among the prunable weights",
        "methods: # `cspbench methods` lists all; {name: csp, search: true} searches hyperparameters",
        "  - csp",
        "  - magnitude",
        "  - movement",
        "  - lottery",
        "# seeds: [0, 1, 2] # three runs of each setting: needed before anybody calls a method better",
        "# sampler: tpe # in place of the whole grid, together with `trials: 30`",
        "# objectives: [wer, latency, size] # what the sampler minimises; wer is of dev",
    ]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 110, initial_indent="# ", subsequent_indent="# ")


def _tokenizer(advice: Advice) -> str:
    return "" if advice.tokenizer == "character" else f", tokenizer: {{kind: {advice.tokenizer}}}"


def _corpus_lines(spec: CorpusSpec) -> Iterator[str]:
    yield "corpus:"
    yield f"  name: {spec.name}"
    if spec.path is not None:
        relative = "" if Path(spec.path).is_absolute() else " # relative to the working folder"
        yield f"  path: {_yaml(spec.path)}{relative}"
    if spec.options:
        yield f"  options: {_yaml(spec.options)}"


def _yaml(value: Any) -> str:
    """A value as YAML on one line; JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)
