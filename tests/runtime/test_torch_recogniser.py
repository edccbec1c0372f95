"""The torch recogniser decodes in chunks what batch decoding decodes, on dense and sparse weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.talkative_model import FEATURES, talkative, trained

from cspbench.asr.decoding import greedy
from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer
from cspbench.corpora import load_corpus
from cspbench.corpora.audio import read_audio
from cspbench.corpora.features import model_inputs
from cspbench.corpora.utterance import Utterance
from cspbench.runtime.torch_affine import Affine, Layout, two_of_four
from cspbench.runtime.torch_recogniser import TorchRecogniser
from cspbench.spec import CorpusSpec


@pytest.fixture(scope="module")
def real_speech(an4_path: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    corpus = load_corpus(CorpusSpec(name="an4", path=str(an4_path)), tmp_path_factory.mktemp("cache"))
    return corpus.split("test")[:6]


def batch_labels(model: LSTMTransducer, samples: np.ndarray) -> list[int]:
    inputs = model_inputs(samples, FEATURES, 16_000)
    return greedy(model, model.normalise(torch.from_numpy(inputs)[None]), torch.tensor([len(inputs)]))[0]


@pytest.mark.parametrize("layout", ["dense", "csr"])
@pytest.mark.parametrize("chunk", [160, 480, 5000])
def test_streaming_agrees_with_batch_decoding_on_real_speech(
    real_speech: list[Utterance], layout: Layout, chunk: int
) -> None:
    model = talkative()
    recogniser = TorchRecogniser(trained(model), layout)
    emitted = 0
    for utterance in real_speech:
        samples, _ = read_audio(utterance.audio)
        recogniser.reset()
        labels = [x for i in range(0, len(samples), chunk) for x in recogniser.accept(samples[i : i + chunk])]
        assert recogniser.steps == ((len(samples) - 400) // 160 + 1) // 3
        assert labels == batch_labels(model, samples)
        emitted += len(labels)
    assert emitted > 50


def test_two_of_four_keeps_the_largest() -> None:
    weight = torch.tensor([[1.0, -3.0, 2.0, 0.5, 0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0, -4.0, 3.0, -2.0, 1.0]])
    kept = [[0.0, -3.0, 2.0, 0.0, 0.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0, -4.0, 3.0, 0.0, 0.0]]
    assert two_of_four(weight).tolist() == kept


def test_two_of_four_products_are_those_of_the_halved_matrix() -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(16, 32), torch.randn(16), torch.randn(32)
    expected = two_of_four(weight).half().float() @ x.half().float() + bias
    torch.testing.assert_close(Affine(weight, bias, "2:4")(x), expected, rtol=0, atol=0.02)


def test_weight_bytes_are_counted_by_part() -> None:
    model = talkative(sparsity=0.8)
    dense, csr = (TorchRecogniser(trained(model), layout).weight_bytes() for layout in ("dense", "csr"))
    output = model.joint_output.weight
    rows, nonzeros = len(output), int((output != 0).sum())
    assert dense["joint_output"] == 4 * (output.numel() + rows)
    assert csr["joint_output"] == nonzeros * (4 + 4) + (rows + 1) * 4 + rows * 4
    assert dense["embedding"] == csr["embedding"] == 4 * model.embedding.weight.numel()


def test_moving_a_recogniser_resets_it_and_changes_no_label() -> None:
    samples = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    recogniser = TorchRecogniser(trained(talkative()))
    expected = recogniser.accept(samples)
    assert len(expected) > 5
    moved = recogniser.to("cpu")
    assert moved is recogniser
    assert moved.steps == 0
    assert moved.accept(samples) == expected
