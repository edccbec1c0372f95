"""The picture of a trial's layers and training."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from cspbench.report.trial_figure import trial_picture

CURVE = [{"step": step, "loss": 100 / step, "dev_wer": 0.1} for step in (10, 20, 30)]
STEPS = [{"step": step, "loss": 100 / step} for step in range(1, 31)]


@pytest.mark.parametrize("curve", [[], CURVE, [{"step": 1, "loss": 0.0}]])
@pytest.mark.parametrize(
    "layers", [{}, {"a": 0.5, "b": 1.0}, {f"encoder.blocks.{i}.{'x' * 80}": 0.9 for i in range(20)}]
)
def test_a_picture_grows_with_the_layers(layers: dict[str, float], curve: list[dict[str, Any]]) -> None:
    picture = imread(BytesIO(trial_picture(layers, curve, STEPS if curve == CURVE else ())))
    assert picture.shape[:2] == (round(100 * (0.9 + max(1.8, 0.24 * len(layers)))), 900)


def test_names_of_layers_are_not_cut_off() -> None:
    """The longest begins within the picture, and bars of all zeros end before the curve."""
    name = "prediction.layers.0.weight_ih_l0"
    picture = imread(BytesIO(trial_picture({name: 1.0, "joint": 0.2}, [])))[..., :3]
    ink = np.flatnonzero((picture < 0.9).any(axis=(0, 2)))
    assert 5 <= ink[0] <= 25
    blue = np.flatnonzero((picture[..., 2] - picture[..., 0] > 0.5).any(axis=0))
    assert ink[0] + 100 < blue[0] < blue[-1] < 450 + blue[0] / 2
