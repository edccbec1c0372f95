"""Greedy search in a batch, in a stream and on packed weights gives the same labels; beam search finds the best."""

from __future__ import annotations

import itertools

import pytest
import torch

from cspbench.asr.decoding import StreamingGreedy, beam_search, greedy
from cspbench.asr.loss import transducer_loss
from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer, Shape
from cspbench.asr.tokenizer import BLANK, MAX_SYMBOLS


def lattice(model: LSTMTransducer, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    output = model(features, targets)
    return model.forward_joint(output.encoded[:, :, None], output.predicted[:, None])  # (N, T, U + 1, V)


def talkative(units: int = 7, seed: int = 0) -> LSTMTransducer:
    """A random recogniser that emits labels often enough to test with."""
    torch.manual_seed(seed)
    model = LSTMTransducer(Shape(12, units, 2, 16, 2, 12, 16), mels=4).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4.0)
        model.joint_output.bias.zero_()
    return model


def test_a_batch_decodes_like_each_utterance_alone() -> None:
    model = talkative()
    features = torch.randn(5, 30, 12)
    frames = torch.tensor([30, 7, 19, 1, 25])
    together = greedy(model, features, frames)
    alone = [greedy(model, features[i : i + 1, :n], torch.tensor([n]))[0] for i, n in enumerate(frames.tolist())]
    assert together == alone
    assert sum(map(len, together)) > 20


@pytest.mark.parametrize("piece", [1, 4, 30])
def test_streaming_agrees_with_the_batch_token_for_token(piece: int) -> None:
    model = talkative(seed=1)
    features = torch.randn(30, 12)
    streaming = StreamingGreedy(model)
    for start in range(0, 30, piece):
        streaming.accept(features[start : start + piece])
    assert streaming.labels == greedy(model, features[None], torch.tensor([30]))[0]
    assert len(streaming.labels) > 5


@pytest.mark.parametrize("seed", [3, 5, 7])
@torch.no_grad()
def test_greedy_search_is_the_best_unit_given_all_labels_before_it(seed: int) -> None:
    """A reference without state: the prediction network reads the whole history again for every unit."""
    model = talkative(seed=seed)
    features = torch.randn(20, 12)
    encoded, _ = model.forward_encoder(features[None])
    history: list[int] = [BLANK]
    for frame in model.joint_encoder(encoded[0]):
        for _ in range(MAX_SYMBOLS):
            predicted, _ = model.forward_prediction(torch.tensor([history]))
            best = int(model.forward_joint(frame[None], model.joint_prediction(predicted[:, -1])).argmax())
            if best == BLANK:
                break
            history.append(best)
    assert greedy(model, features[None], torch.tensor([20])) == [history[1:]]
    assert len(set(history)) > 2


def test_no_frame_emits_more_than_max_symbols() -> None:
    model = talkative()
    with torch.no_grad():
        model.joint_output.bias[3] = 100.0  # one label wins everywhere
    labels = greedy(model, torch.randn(2, 6, 12), torch.tensor([6, 4]), max_symbols=3)
    assert [len(x) for x in labels] == [18, 12]
    assert len(StreamingGreedy(model, max_symbols=3).accept(torch.randn(6, 12))) == 18


def test_a_wide_beam_finds_the_most_probable_labels_and_their_probability() -> None:
    model = talkative(units=3, seed=2).double()
    features = torch.randn(3, 12, dtype=torch.double)
    # All sequences of up to 6 labels in 3 frames of at most 2 labels each.
    best = beam_search(model, features, beam=200, max_symbols=2)
    exact = {}
    for length in range(3):  # short enough that at most 2 symbols a frame excludes no alignment
        for labels in itertools.product((1, 2), repeat=length):
            targets = torch.tensor([labels], dtype=torch.long).reshape(1, length)
            logits = lattice(model, features[None], targets)
            loss = transducer_loss(logits, targets, torch.tensor([3]), torch.tensor([length]))
            exact[labels] = -float(loss.detach())
    found = {h.labels: h.score for h in best}
    for labels, score in exact.items():
        assert found[labels] == pytest.approx(score, abs=1e-6)
    assert [h.score for h in best] == sorted((h.score for h in best), reverse=True)


def test_a_beam_is_no_worse_than_greedy() -> None:
    model = talkative(seed=3)
    features = torch.randn(12, 12)
    labels = greedy(model, features[None], torch.tensor([12]))[0]
    targets = torch.tensor([labels])
    with torch.no_grad():
        logits = lattice(model, features[None], targets)
    score = -float(transducer_loss(logits, targets, torch.tensor([12]), torch.tensor([len(labels)])))
    assert beam_search(model, features, beam=16)[0].score >= score - 0.7


def test_a_beam_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="beam must be at least 1"):
        beam_search(talkative(), torch.randn(2, 12), beam=0)
