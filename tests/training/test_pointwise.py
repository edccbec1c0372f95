"""Kernels (out, in, 1) of pointwise convolutions are pruned by a sweep as the matrices that they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from support.toy_transducer import some_data
from torch import nn

import cspbench
from cspbench.asr.ctc_model import CtcBase, CtcOutput
from cspbench.asr.speech_model import prunable_weights
from cspbench.asr.tokenizer import train_tokenizer
from cspbench.asr.trained import TrainedModel
from cspbench.corpora.batches import Batch
from cspbench.pruning import PruningContext
from cspbench.pruning.inputs import input_moments
from cspbench.pruning.matrices import as_matrix
from cspbench.pruning.registry import create
from cspbench.runtime.packing.pack import dense_bytes, packed_bytes
from cspbench.spec import FeatureSpec, TokenizerSpec, TrainSpec
from cspbench.training.loop import TrainingRun, flushed_denormals, one_cycle

SPEC = TrainSpec(epochs=1, batch_size=4, ctc_weight=0.0, augment={"frequency_masks": 0, "time_masks": 0, "edges": 0})
DATA = some_data()
PER_EPOCH = DATA.steps_per_epoch(SPEC.batch_size)
STEPS = SPEC.epochs * PER_EPOCH
POINTWISE = {"widen.weight", "narrow.weight"}


class PointwiseCtc(CtcBase):
    """Pointwise convolutions around a depthwise one."""

    def __init__(self) -> None:
        super().__init__(mels=4)
        self.widen, self.narrow = nn.Conv1d(8, 16, 1), nn.Conv1d(16, 12, 1, bias=False)
        self.depthwise = nn.Conv1d(16, 16, 3, padding=1, groups=16)
        self.output = nn.Linear(12, 6)

    def outputs(self, batch: Batch) -> CtcOutput:
        x = torch.relu(self.depthwise(self.widen(batch.features.transpose(1, 2))))
        return CtcOutput(self.output(self.narrow(x).transpose(1, 2)), batch.frames)


def some_model() -> PointwiseCtc:
    torch.manual_seed(0)
    return PointwiseCtc()


def calibration(model: PointwiseCtc) -> Iterator[object]:
    for make in DATA.batches(SPEC, 3, 0)[:2]:
        batch = make()
        yield model.outputs(replace(batch, features=model.normalise(batch.features)))


def rate(step: int) -> float:
    return one_cycle(step, STEPS, SPEC.learning_rate, SPEC.warmup)


def swept(method: str) -> TrainingRun:
    """The sweep's own loop, to the end."""
    model = some_model()
    weights = prunable_weights(model)
    context = PruningContext(
        weights={name: as_matrix(name, weight) for name, weight in weights.items()},
        sparsity=0.6,
        steps=STEPS,
        grams=input_moments(model, weights, lambda: calibration(model)),
        learning_rate=rate,
    )
    made = create(method, {}, context)
    run = TrainingRun(model=model, data=DATA, spec=SPEC, seed=3, phases=made.phases(), method=made)
    run.run()
    return run


def plain_loop(method: str) -> PointwiseCtc:
    model = some_model()
    decayed, plain = ([p for p in model.parameters() if (p.dim() >= 2) == many] for many in (True, False))
    groups = [{"params": decayed, "weight_decay": SPEC.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=SPEC.learning_rate, betas=(0.9, 0.99), fused=True)
    pruner = cspbench.Pruner(
        model,
        optimizer,
        method=method,
        sparsity=0.6,
        steps=STEPS,
        prunable=[*POINTWISE, "output.weight"],
        calibration=lambda: calibration(model),
        learning_rate=rate,
    )
    for step in range(pruner.total):
        epoch, index = divmod(step, PER_EPOCH)
        batch = DATA.batches(SPEC, 3, epoch)[index]()
        torch.manual_seed(3 * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.zero_grad()
        batch = replace(batch, features=model.normalise(batch.features))
        model.loss(model.outputs(batch), batch).mean().backward()
        pruner.after_backward()
        nn.utils.clip_grad_norm_(model.parameters(), SPEC.clip)
        optimizer.step()
    pruner.finish()
    return model


def test_pointwise_kernels_are_prunable_and_depthwise_ones_are_not() -> None:
    assert set(prunable_weights(some_model())) == {*POINTWISE, "output.weight"}


@pytest.mark.parametrize("method", ["fisher_magnitude", "movement", "snip", "sparsegpt"])
def test_a_sweep_prunes_them_as_the_pruner_does(method: str) -> None:
    run = swept(method)
    with flushed_denormals():
        expected = plain_loop(method)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(run.model.state_dict()[name], tensor), name
    weights = prunable_weights(run.model)
    assert sum(int((w == 0).sum()) for w in weights.values()) == round(0.6 * sum(w.numel() for w in weights.values()))
    assert all((weights[name] == 0).any() for name in POINTWISE)
    assert run.method is not None
    assert run.method.masks()["widen.weight"].shape == (16, 8)


def test_their_bytes_are_those_of_packed_matrices() -> None:
    model = some_model()
    trained = TrainedModel(model, train_tokenizer(TokenizerSpec(), ["a"]), FeatureSpec(), 16_000)
    dense = dense_bytes(trained)
    assert dense == sum(x.numel() * x.element_size() for x in model.recogniser_state().values())
    model.widen.weight.data.zero_()
    assert packed_bytes(trained) < dense - 8 * 16 * 3
