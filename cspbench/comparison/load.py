"""Reading of comparison files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cspbench.comparison.config import BROKEN, ComparisonConfig
from cspbench.comparison.rules import comparison_problems
from cspbench.config.load import Kind, Override, load_file

COMPARISON = Kind(
    ComparisonConfig,
    comparison_problems,
    stand_ins={"name": "unnamed", "corpora": [{"label": BROKEN}], "sparsity": [0.0], "methods": [""]},
    items={"methods": "", "corpora": {"label": BROKEN}},
)


def load_comparison_config(path: Path | str, overrides: Iterable[Override] = ()) -> ComparisonConfig:
    """Read and check a comparison file.

    Raises:
        ConfigError: the file cannot be read, or one message with all that is wrong in it.
    """
    return load_file(path, overrides, COMPARISON)
