"""A transducer with a conformer encoder that streams in chunks, and a stateless prediction network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from cspbench.asr.conformer import ConformerEncoder, ConformerShape
from cspbench.asr.recognisers.stateless import StatelessBase, StatelessOptions, StatelessPrediction
from cspbench.asr.speech_model import register
from cspbench.errors import ConfigError
from cspbench.spec import FeatureSpec, ModelSpec


class ConformerOptions(StatelessOptions):
    """Options of the conformer transducer."""

    heads: int = Field(4, ge=1, le=64, description="of attention; encoder_width is a multiple of twice as many")
    kernel: int = Field(15, ge=1, le=255, description="frames of the causal convolution")
    chunk: int = Field(8, ge=1, le=1024, description="model steps that are encoded together; the latency they bring")
    left_chunks: int = Field(4, ge=1, le=1024, description="chunks before its own that a frame attends to")


@register("conformer_transducer")
class ConformerTransducer(StatelessBase):
    """Conformer encoder with chunked attention and causal convolution, stateless prediction network."""

    summary = "Conformer encoder that streams in chunks, prediction network that sees the last labels only"
    source = "Gulati et al. 2020 (arXiv:2005.08100)"
    Options = ConformerOptions
    presets: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "tiny": {"encoder_layers": 4, "encoder_width": 64, "prediction_width": 64, "joint_width": 128},
        "small": {"encoder_layers": 6, "encoder_width": 144, "prediction_width": 128, "joint_width": 192},
        "paper": {"encoder_layers": 16, "encoder_width": 144, "prediction_width": 320, "joint_width": 320},
    }

    def __init__(self, spec: ModelSpec, features: FeatureSpec, units: int) -> None:
        super().__init__(features.mels)
        size, options = self.sizes(spec), self.options(spec)
        width = size["encoder_width"]
        if width % (2 * options.heads):
            raise ConfigError(f"model.encoder_width: {width} is no multiple of twice the {options.heads} heads")
        shape = ConformerShape(
            inputs=features.mels * features.stack,
            layers=size["encoder_layers"],
            width=width,
            heads=options.heads,
            kernel=options.kernel,
            chunk=options.chunk,
            left=options.chunk * options.left_chunks,
        )
        self.chunk = options.chunk
        self.encoder = ConformerEncoder(shape, spec.dropout)
        self.prediction = StatelessPrediction(units, size["prediction_width"], options.context)
        self.dropout = nn.Dropout(spec.dropout)
        self.make_joint(width, size["prediction_width"], size["joint_width"], units)

    def forward_encoder(self, features: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return self.encoder.advance(features, state)

    def encode(self, features: Tensor, frames: Tensor) -> Tensor:
        return self.encoder.encode(features, frames)
