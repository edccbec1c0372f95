"""The schema of a sweep file: the one source of truth for its names, ranges and defaults."""

from cspbench.config.axes import Axis, Choice, Range
from cspbench.config.load import Override, load_config, parse_override
from cspbench.config.schema import (
    DenseTraining,
    EarlyStopping,
    MethodEntry,
    SamplerSpec,
    SparsityAxis,
    SweepConfig,
    TrialResources,
)  # fmt: skip

__all__ = [
    "Axis", "Choice", "DenseTraining", "EarlyStopping", "MethodEntry",
    "Override", "Range", "SamplerSpec", "SparsityAxis", "SweepConfig", "TrialResources",
    "load_config", "parse_override",
]  # fmt: skip
