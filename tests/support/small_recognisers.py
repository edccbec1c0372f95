"""Every recogniser of the package but the default one, so small that a test can train it."""

from __future__ import annotations

from typing import Any

from cspbench.spec import ModelSpec

SMALL: dict[str, dict[str, Any]] = {
    "conformer_transducer": {
        **{"encoder_layers": 2, "encoder_width": 48, "prediction_width": 32, "joint_width": 64},
        "options": {"heads": 2, "kernel": 5, "chunk": 4, "left_chunks": 2},
    },
    "lstm_ctc": {"encoder_layers": 2, "encoder_width": 64},
    "stateless_transducer": {"encoder_layers": 1, "encoder_width": 64, "prediction_width": 32, "joint_width": 64},
}


def small(name: str) -> ModelSpec:
    return ModelSpec(name=name, dropout=0.0, **SMALL[name])
