from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cspbench.asr.model import Transducer, resolve_shape
from cspbench.asr.speech_model import prunable_weights
from cspbench.bench.random_speech import SpeechShape, random_speech
from cspbench.spec import DenseSpec, ModelSpec
from cspbench.trials import calibration


def test_of_a_student_that_is_the_teacher_the_responses_are_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then ``E[z x^T]`` is ``W E[x x^T]``, matrix by matrix."""
    spec = DenseSpec(model=ModelSpec(preset="tiny"))
    speech = random_speech(SpeechShape(16, 8, 16))
    torch.manual_seed(0)
    model = Transducer(resolve_shape(spec.model, spec.features, speech.tokenizer.size), spec.features.mels)
    monkeypatch.setattr(calibration, "load_model", lambda path: SimpleNamespace(model=model))
    weights = prunable_weights(model)
    folder = SimpleNamespace(path=None)
    found = calibration.teacher_responses(folder, model, speech, list(weights))(8, 3)
    moments = calibration.input_grams(model, speech, list(weights))(8, 3)
    for name, weight in weights.items():
        torch.testing.assert_close(found[name], weight.detach() @ moments[name], atol=1e-5, rtol=1e-4)
