from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from cspbench.asr.recognisers.lstm_transducer import LSTMStack, LSTMTransducer, resolve_shape
from cspbench.asr.speech_model import prunable_weights, valid
from cspbench.asr.transducer import CALIBRATION_STRIDE, started
from cspbench.bench.random_speech import SpeechShape, random_speech
from cspbench.corpora.batches import Batch
from cspbench.pruning import PruningContext
from cspbench.pruning.inputs import ROWS, repeatable
from cspbench.pruning.moments import MeanProducts
from cspbench.pruning.registry import create
from cspbench.spec import DenseSpec, ModelSpec, TrainSpec
from cspbench.training.loop import TrainingRun
from cspbench.training.speech import Speech
from cspbench.trials import calibration

SPEC = DenseSpec(model=ModelSpec(preset="tiny"))
SHORT = SpeechShape(16, 8, 16)
LONG = SpeechShape(24, 60, 100)
"""So many lattice nodes in a batch that inputs of the joint would be more than one chunk."""


def some_model(speech: Speech) -> LSTMTransducer:
    torch.manual_seed(0)
    return LSTMTransducer(resolve_shape(SPEC.model, SPEC.features, speech.tokenizer.size), SPEC.features.mels)


def multiplied(model: LSTMTransducer, batch: Batch) -> dict[str, Tensor]:
    """Inputs (n, in) of every matrix on a normalised batch, in the order of utterances, then frames and labels."""
    inside = valid(batch.frames, batch.features.shape[1])
    spoken = valid(batch.labels + 1, batch.targets.shape[1] + 1)
    found: dict[str, Tensor] = {}

    def through(name: str, stack: LSTMStack, x: Tensor, mask: Tensor) -> Tensor:
        for index, layer in enumerate(stack.layers):
            found[f"{name}.layers.{index}.weight_ih_l0"] = x[mask]
            x, _ = layer(x)
            found[f"{name}.layers.{index}.weight_hh_l0"] = nn.functional.pad(x[:, :-1], (0, 0, 1, 0))[mask]
        return x

    encoded = through("encoder", model.encoder, batch.features, inside)
    predicted = through("prediction", model.prediction, model.embedding(started(batch.targets)), spoken)
    found["joint_encoder.weight"], found["joint_prediction.weight"] = encoded[inside], predicted[spoken]
    thin = slice(None, None, CALIBRATION_STRIDE)
    nodes = model.joint_encoder(encoded[:, thin])[:, :, None] + model.joint_prediction(predicted)[:, None]
    found["joint_output.weight"] = torch.tanh(nodes[inside[:, thin, None] & spoken[:, None, :]])
    return found


def plain_grams(model: LSTMTransducer, speech: Speech) -> Callable[..., dict[str, Tensor]]:
    """Second moments without hooks."""

    def grams(utterances: int = 192, skip: int = 0) -> dict[str, Tensor]:
        products = MeanProducts()
        with repeatable(model, seed=0):
            for batch in calibration._batches(model, speech, utterances, skip):
                for name, inputs in multiplied(model, batch).items():
                    products.add(name, inputs, inputs)
        return products.means(prunable_weights(model))

    return grams


def test_moments_are_those_of_a_plain_forward_pass_bit_for_bit() -> None:
    """Published results depend on the order in which floats are added."""
    speech = random_speech(LONG)
    model = some_model(speech)
    with repeatable(model, seed=0):
        batch = next(calibration._batches(model, speech, 24, 3))
        assert len(multiplied(model, batch)["joint_output.weight"]) > ROWS
    expected = plain_grams(model, speech)(24, 3)
    found = calibration.input_grams(model, speech, list(expected))(24, 3)
    assert set(found) == set(prunable_weights(model))
    for name, moment in found.items():
        assert torch.equal(moment, expected[name]), name


def test_csp_prunes_as_with_moments_of_a_plain_forward_pass() -> None:
    speech = random_speech(SHORT)
    training, steps = TrainSpec(epochs=1, batch_size=4, ctc_weight=0.3), 4
    outcomes = []
    for moments in (plain_grams, lambda m, s: calibration.input_grams(m, s, list(prunable_weights(m)))):
        model = some_model(speech)
        context = PruningContext(prunable_weights(model), 0.8, steps, grams=moments(model, speech))
        method = create("csp", {}, context)
        data = speech.training()
        TrainingRun(model=model, data=data, spec=training, seed=3, phases=method.phases(), method=method).run()
        outcomes.append((model.state_dict(), method.masks()))
    for found, expected in zip(*outcomes, strict=True):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)


def test_of_a_student_that_is_the_teacher_the_responses_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then ``E[z x^T]`` is ``W E[x x^T]``, matrix by matrix."""
    speech = random_speech(SHORT)
    model = some_model(speech)
    monkeypatch.setattr(calibration, "load_model", lambda path: SimpleNamespace(model=model))
    weights = prunable_weights(model)
    folder = SimpleNamespace(path=None)
    found = calibration.teacher_responses(folder, model, speech, list(weights))(8, 3)
    moments = calibration.input_grams(model, speech, list(weights))(8, 3)
    for name, weight in weights.items():
        torch.testing.assert_close(found[name], weight.detach() @ moments[name], atol=1e-5, rtol=1e-4)
