"""`cspbench.Pruner` in a plain loop that mirrors the sweep's: the same weights and masks, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.toy_transducer import some_data, some_model
from torch import nn

import cspbench
from cspbench.asr.ctc import ctc_loss
from cspbench.asr.loss import joint_transducer_loss
from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer
from cspbench.asr.speech_model import prunable_weights
from cspbench.asr.tokenizer import BLANK
from cspbench.corpora.batches import Batch
from cspbench.pruning import PruningContext
from cspbench.pruning.inputs import input_moments
from cspbench.pruning.registry import create, pruning_names
from cspbench.spec import TrainSpec
from cspbench.training.loop import TrainingRun, flushed_denormals, one_cycle, spec_augment

SPEC = TrainSpec(epochs=2, batch_size=4, ctc_weight=0.3)
SEED = 3
DATA = some_data()
PER_EPOCH = DATA.steps_per_epoch(SPEC.batch_size)
STEPS = SPEC.epochs * PER_EPOCH
METHODS = [(name, {}) for name in pruning_names()]
MORE: list[tuple[str, dict[str, Any]]] = [
    ("lottery", {"rounds": 2, "round_steps": 0.5}),
    ("magnitude", {"refit": True}),
    ("sparsegpt", {"fine_tune": True, "ramp": 0.5}),
    ("control", {}),
]


def rate(step: int, steps: int = STEPS) -> float:
    return one_cycle(step, steps, SPEC.learning_rate, SPEC.warmup)


def calibration(model: LSTMTransducer) -> Iterator[object]:
    for batch in (make() for make in DATA.batches(SPEC, SEED, 0)[:2]):
        output = model(model.normalise(batch.features), batch.targets)
        yield model.forward_joint(output.encoded[:, :, None], output.predicted[:, None])


def early(fraction: float) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(round(100 * fraction))
    state = some_model().state_dict()
    return {name: x + 0.1 * torch.randn(x.shape, generator=generator) for name, x in state.items()}


def swept(name: str, params: dict[str, Any], sparsity: float) -> TrainingRun:
    """The sweep's own loop, to the end."""
    model = some_model()
    weights = prunable_weights(model)
    context = PruningContext(
        weights=weights,
        sparsity=sparsity,
        steps=STEPS,
        grams=input_moments(model, weights, lambda: calibration(model)),
        learning_rate=rate,
        snapshot=early,
        restore=lambda tensors: model.load_state_dict({**model.state_dict(), **tensors}),
    )
    method = create(name, params, context)
    run = TrainingRun(model=model, data=DATA, spec=SPEC, seed=SEED, phases=method.phases(), method=method)
    run.run()
    return run


def losses(model: LSTMTransducer, batch: Batch, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    features = model.normalise(batch.features)
    if epoch >= SPEC.augment.start_epoch:
        features = spec_augment(features, batch.frames, model.mels, SPEC.augment)
    out = model(features, batch.targets)
    joint = model.joint_output
    own = joint_transducer_loss(
        out.encoded, out.predicted, joint.weight, joint.bias, batch.targets, batch.frames, batch.labels, blank=BLANK
    )
    return own, SPEC.ctc_weight * ctc_loss(out.ctc, batch.targets, batch.frames, batch.labels)


def plain_loop(model: LSTMTransducer, name: str, params: dict[str, Any], sparsity: float) -> cspbench.Pruner:
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": SPEC.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=SPEC.learning_rate, betas=(0.9, 0.99), fused=True)
    pruner = cspbench.Pruner(
        model,
        optimizer,
        method=name,
        sparsity=sparsity,
        steps=STEPS,
        prunable=["encoder.*", "prediction.*", "joint_*"],
        calibration=lambda: calibration(model),
        earlier=early,
        learning_rate=rate,
        **params,
    )
    rates = [rate(step, steps) for steps in pruner.phases for step in range(steps)]
    for step in range(pruner.total):
        epoch, index = divmod(step, PER_EPOCH)
        batch = DATA.batches(SPEC, SEED, epoch)[index]()
        torch.manual_seed(SEED * 1_000_003 + step)
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        optimizer.zero_grad()
        own, auxiliary = losses(model, batch, epoch)
        if pruner.observes_gradients:
            own.backward(retain_graph=True)
            pruner.observe_gradients()
            auxiliary.backward()
        else:
            (own + auxiliary).backward()
        pruner.after_backward()
        nn.utils.clip_grad_norm_(model.parameters(), SPEC.clip)
        optimizer.step()
    return pruner


@pytest.mark.parametrize(("name", "params"), METHODS + MORE, ids=lambda value: str(value))
def test_a_plain_loop_prunes_as_the_sweep_does(name: str, params: dict[str, Any]) -> None:
    sparsity = 0.0 if name == "control" else 0.6
    expected = swept(name, params, sparsity)
    model = some_model()
    with flushed_denormals():
        pruner = plain_loop(model, name, params, sparsity)
        report = pruner.finish()
    for key, value in expected.model.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert expected.method is not None
    masks = expected.method.masks()
    assert pruner.masks().keys() == masks.keys()
    for key, mask in pruner.masks().items():
        assert torch.equal(mask, masks[key]), key
    assert (report.step, report.total) == (expected.total, expected.total)
    assert report.sparsity == pytest.approx(sparsity, abs=1e-3)
