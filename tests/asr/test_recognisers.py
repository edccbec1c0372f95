"""The registry of recognisers: how a sweep file names one, and what that changes in a trial's identity."""

from __future__ import annotations

import pytest
import torch
from support.small_recognisers import SMALL, small

from cspbench.asr.recognisers import build_model, prunable_shapes, recognisers, with_options
from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer
from cspbench.asr.speech_model import SpeechModel, prunable_weights
from cspbench.corpora.batches import Batch
from cspbench.errors import ConfigError
from cspbench.pruning.inputs import positions, repeatable, watching
from cspbench.spec import DenseSpec, FeatureSpec, ModelSpec

UNITS = 9
FEATURES = FeatureSpec(mels=8, stack=2)


@pytest.fixture(params=sorted(SMALL))
def model(request: pytest.FixtureRequest) -> SpeechModel:
    """A recogniser with random weights that emits labels in a good part of the steps."""
    torch.manual_seed(0)
    made = build_model(small(request.param), FEATURES, UNITS).eval()
    for name, weight in made.named_parameters():
        if weight.dim() > 1:
            weight.data *= 3 if name.startswith(("joint", "output")) else 1.5
    return made


def some_batch() -> Batch:
    """Three utterances of different lengths, padded with what must not matter."""
    frames, labels = torch.tensor([37, 20, 29]), torch.tensor([4, 2, 0])
    features = torch.randn(3, 37, 16, generator=torch.Generator().manual_seed(1))
    targets = torch.randint(1, UNITS, (3, 4), generator=torch.Generator().manual_seed(2))
    return Batch(features, frames, targets, labels, [0, 1, 2])


def alone(batch: Batch, row: int) -> Batch:
    """One utterance of a batch, without padding."""
    t, u = int(batch.frames[row]), int(batch.labels[row])
    one = slice(row, row + 1)
    return Batch(batch.features[one, :t], batch.frames[one], batch.targets[one, :u], batch.labels[one], [row])


def test_the_default_recogniser_is_no_part_of_the_identity() -> None:
    """Ids of results from before there were others: `name` and `options` with their defaults are left out."""
    plain, named = DenseSpec(), DenseSpec(model=ModelSpec(name="lstm_transducer", options={}))
    assert plain.id == named.id == "c2c0f539e0238db4"
    assert isinstance(build_model(plain.model, plain.features, UNITS), LSTMTransducer)


def test_an_unknown_recogniser_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown recogniser 'lstm_transduce'; did you mean 'lstm_transducer'"):
        build_model(ModelSpec(name="lstm_transduce"), FeatureSpec(), UNITS)


@pytest.mark.parametrize("name", recognisers.names())
def test_every_recogniser_describes_itself_and_makes_no_weights_to_be_checked(name: str) -> None:
    kind = recognisers.get(name)
    assert kind.summary
    assert kind.source
    shapes = prunable_shapes(ModelSpec(name=name), FeatureSpec(), UNITS)
    assert min(min(shape) for shape in shapes.values()) > 1


@torch.no_grad()
def test_padding_changes_neither_loss_nor_labels(model: SpeechModel) -> None:
    batch = some_batch()
    outputs = model.outputs(batch)
    losses, labels = model.loss(outputs, batch), model.decode(outputs, batch)
    assert len({tuple(found) for found in labels}) == 3, "a recogniser that says the same of everything tests nothing"
    for row in range(3):
        single = alone(batch, row)
        outputs = model.outputs(single)
        torch.testing.assert_close(model.loss(outputs, single)[0], losses[row], rtol=1e-4, atol=1e-4)
        assert model.decode(outputs, single)[0] == labels[row]


@torch.no_grad()
def test_a_stream_gives_the_labels_of_the_whole_wherever_it_is_cut(model: SpeechModel) -> None:
    batch = some_batch()
    expected = model.decode(model.outputs(batch), batch)
    for row, frames in enumerate(batch.frames.tolist()):
        for size in (1, 3, 37):
            stream, features = model.stream(), batch.features[row, :frames]
            found = [label for chunk in features.split(size) for label in stream.accept(chunk)]
            assert found + stream.finish() == expected[row]
            assert all(part.numel() for part in stream.state())


def test_gradients_reach_everything(model: SpeechModel) -> None:
    batch = some_batch()
    outputs = model.train().outputs(batch)
    loss = model.loss(outputs, batch).mean()
    auxiliary = model.auxiliary_loss(outputs, batch)
    (loss if auxiliary is None else loss + auxiliary).backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_calibration_shows_every_matrix_what_it_multiplies_without_padding(model: SpeechModel) -> None:
    """The same rows as from each utterance alone, which has no padding."""
    batch, weights = some_batch(), prunable_weights(model)

    def moments(*batches: Batch) -> dict[str, tuple[int, torch.Tensor]]:
        found = {name: (0, torch.zeros(weight.shape[1], weight.shape[1])) for name, weight in weights.items()}

        def see(name: str, x: torch.Tensor) -> None:
            found[name] = (found[name][0] + len(x), found[name][1] + x.T @ x)

        with repeatable(model, seed=0), watching(model, weights, see):
            for one in batches:
                model.calibrate(one, positions)
        return found

    together, apart = moments(batch), moments(*(alone(batch, row) for row in range(3)))
    for name in weights:
        assert together[name][0] == apart[name][0] > 0, name
        torch.testing.assert_close(together[name][1], apart[name][1], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_options_that_a_recogniser_does_not_have_are_refused(name: str) -> None:
    spec = small(name).model_copy(update={"options": {"nonsense": 1}})
    with pytest.raises(ConfigError, match=rf"model\.options of '{name}': there is no hyperparameter 'nonsense'"):
        build_model(spec, FEATURES, UNITS)


def test_heads_of_the_conformer_must_fit_its_width() -> None:
    spec = ModelSpec(name="conformer_transducer", encoder_width=100, options={"heads": 8})
    with pytest.raises(ConfigError, match=r"model\.encoder_width: 100 is no multiple of twice the 8 heads"):
        build_model(spec, FEATURES, UNITS)


def test_options_are_written_out_so_that_another_default_changes_no_identity() -> None:
    assert with_options(ModelSpec(name="stateless_transducer")).options == {"context": 2}
    assert with_options(ModelSpec()) == ModelSpec()
