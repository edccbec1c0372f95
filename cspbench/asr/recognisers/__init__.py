"""Recognisers by name: the built-in ones, and those that other packages publish under ``cspbench.recognisers``."""

import cspbench.asr.recognisers.conformer
import cspbench.asr.recognisers.lstm_ctc
import cspbench.asr.recognisers.lstm_transducer
import cspbench.asr.recognisers.stateless  # noqa: F401 - importing registers them
from cspbench.asr.ctc_model import CtcBase, CtcOutput, CtcStream
from cspbench.asr.recognisers.build import build_model, prunable_shapes, with_options
from cspbench.asr.speech_model import SpeechModel, recognisers, register, valid
from cspbench.asr.transducer import TransducerBase

__all__ = [
    "CtcBase",
    "CtcOutput",
    "CtcStream",
    "SpeechModel",
    "TransducerBase",
    "build_model",
    "prunable_shapes",
    "recognisers",
    "register",
    "valid",
    "with_options",
]
