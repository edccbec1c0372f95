"""Recognisers by name: the built-in ones, and those that other packages publish under ``cspbench.recognisers``."""

import cspbench.asr.model
import cspbench.asr.recognisers.conformer
import cspbench.asr.recognisers.lstm_ctc
import cspbench.asr.recognisers.stateless  # noqa: F401 - importing registers them
from cspbench.asr.recognisers.build import build_model, prunable_shapes, with_options
from cspbench.asr.speech_model import SpeechModel, recognisers, register

__all__ = ["SpeechModel", "build_model", "prunable_shapes", "recognisers", "register", "with_options"]
