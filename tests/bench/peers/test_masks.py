from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cspbench.asr.speech_model import prunable_weights
from cspbench.bench.peers.end_to_end import random_recogniser
from cspbench.bench.peers.masks import encoder_layers, like, open_pruned, pruned_work, stretched
from cspbench.bench.peers.workload import SIZES
from cspbench.errors import ConfigError
from cspbench.training.checkpoint import save_model


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser of the preset `small` whose zeros lie unevenly: the later a row, the fewer."""
    made = random_recogniser()
    torch.manual_seed(0)
    for weight in prunable_weights(made.model).values():
        rows = torch.linspace(0.02, 0.3, len(weight))[:, None]
        weight.data = torch.randn_like(weight) * (torch.rand_like(weight) < rows)
    folder = tmp_path_factory.mktemp("pruned")
    save_model(folder, made)
    return folder


def test_s_is_the_pruned_encoder_itself(pruned: Path) -> None:
    source = open_pruned(pruned)
    work = pruned_work("S", source)
    weights = source.trained().model.encoder.layers[1]
    joined = torch.cat([weights.weight_ih_l0, weights.weight_hh_l0], 1)
    np.testing.assert_array_equal(work.layers[1].weight, joined.detach().numpy())
    np.testing.assert_array_equal(work.layers[1].bias, (weights.bias_ih_l0 + weights.bias_hh_l0).detach().numpy())
    assert [layer.weight.shape for layer in work.layers] == [(1024, 376), (1024, 512)]
    assert work.zeros == pytest.approx(1 - work.nonzeros / work.weights)
    assert work.mask == "pruned encoder"


def test_a_stretched_mask_keeps_density_and_unevenness() -> None:
    rng = np.random.default_rng(0)
    chances = np.outer(np.linspace(0.05, 0.4, 64), np.linspace(0.2, 1.8, 80))
    mask = rng.random((64, 80)) < chances
    large = stretched(mask, 256, 400, rng)
    assert large.sum() == round(mask.mean() * 256 * 400)
    by_row = large.mean(1).reshape(64, 4).mean(1)
    assert np.corrcoef(by_row, mask.mean(1))[0, 1] > 0.95
    assert large.mean(0).std() == pytest.approx(mask.mean(0).std(), rel=0.2)
    even = rng.random((256, 400)) < mask.mean()
    assert large.mean(1).std() > 3 * even.mean(1).std()


def test_rows_without_weights_stay_empty() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[4:, ::2] = True
    large = stretched(mask, 32, 32, np.random.default_rng(1))
    assert large.sum() == 16 * 16
    assert not large[:16].any()


def test_l_is_like_the_pruned_encoder(pruned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = SIZES["S"].__class__(layers=3, width=64, inputs=40)
    monkeypatch.setitem(SIZES, "L", size)
    layers = encoder_layers(open_pruned(pruned))
    masks = like(layers, "L", np.random.default_rng(0))
    assert [mask.shape for mask in masks] == [(256, size.columns(i)) for i in range(3)]
    assert masks[0].mean() == pytest.approx((layers[0].weight != 0).mean(), rel=0.05)
    work = pruned_work("L", open_pruned(pruned))
    assert work.mask == "like a pruned encoder's"
    assert work.layers[2].weight.shape == (256, 128)
    assert np.abs(work.reference).max() < 1


def test_another_shape_is_refused(tmp_path: Path) -> None:
    made = random_recogniser("tiny")
    save_model(tmp_path, made)
    with pytest.raises(ConfigError, match="preset 'small'"):
        pruned_work("S", open_pruned(tmp_path))
