"""A tiny transducer, data it can learn, and training runs of them by the sweep's own loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer, Shape
from cspbench.asr.speech_model import prunable_weights
from cspbench.corpora.features import FeatureSet
from cspbench.corpora.utterance import Utterance
from cspbench.pruning import Phase, PruningContext, PruningMethod
from cspbench.pruning.registry import create
from cspbench.spec import FeatureSpec, TrainSpec
from cspbench.training.loop import TrainingData, TrainingRun

UTTERANCES = 20
SPEC = FeatureSpec.model_construct(mels=4, stack=2, floor=None, level_fall=None)


def some_data() -> TrainingData:
    rng = np.random.default_rng(0)
    offsets = np.cumsum([0, *rng.integers(12, 30, UTTERANCES)])
    utterances = [Utterance(f"u{i}", Path("x"), 1.0, "s", "a", "train", "") for i in range(UTTERANCES)]
    energies = np.exp(rng.standard_normal((offsets[-1], 4))).astype(np.float32)
    features = FeatureSet(utterances, energies, offsets, np.diff(offsets), SPEC)
    return TrainingData({1.0: features}, [rng.integers(1, 6, 3).tolist() for _ in range(UTTERANCES)])


def some_model(device: str = "cpu") -> LSTMTransducer:
    torch.manual_seed(0)
    return LSTMTransducer(Shape(8, 6, 2, 12, 1, 8, 10), mels=4, dropout=0.2).to(device)


def some_run(folder: Path | None, method: str | None = None, device: str = "cpu", **spec: object) -> TrainingRun:
    model = some_model(device)
    training = TrainSpec(**{"epochs": 4, "batch_size": 4, **spec})
    data = some_data()
    steps = training.epochs * data.steps_per_epoch(4)
    pruning = make(method, model, steps) if method else None
    return TrainingRun(
        model=model,
        data=data,
        spec=training,
        seed=3,
        phases=pruning.phases() if pruning else [Phase(steps)],
        method=pruning,
        checkpoint=folder / "checkpoint.pt" if folder else None,
    )


def make(name: str, model: LSTMTransducer, steps: int) -> PruningMethod:
    weights = prunable_weights(model)
    start = {k: v.clone() for k, v in model.state_dict().items()}
    context = PruningContext(
        weights=weights,
        sparsity=0.6,
        steps=steps,
        grams=lambda *_: {n: torch.eye(w.shape[1]) for n, w in weights.items()},
        snapshot=lambda share: start,
        restore=lambda tensors: model.load_state_dict({**model.state_dict(), **tensors}),
    )
    return create(name, {}, context)
