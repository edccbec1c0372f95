"""Reading of comparison files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cspbench.comparison.config import BROKEN, ComparedMethod, ComparisonConfig
from cspbench.comparison.rules import comparison_problems
from cspbench.config.load import Kind, Override, load_file
from cspbench.errors import ConfigError, did_you_mean
from cspbench.pruning.registry import methods

COMPARISON = Kind(
    ComparisonConfig,
    comparison_problems,
    stand_ins={"name": "unnamed", "corpora": [{"label": BROKEN}], "sparsity": [0.0], "methods": [""]},
    items={"methods": "", "corpora": {"label": BROKEN}},
)


def with_entry(config: ComparisonConfig, name: str) -> ComparisonConfig:
    """A comparison that one more method takes part in, under the rules for all.

    It runs at every budget. It tries as many settings as every tuned method, of the ranges that it declares, the common
    axes and learning rates; in a comparison without tuning it runs with its defaults.

    Args:
        config: the comparison.
        name: a registered method; it is the label too.

    Raises:
        ConfigError: no such method, it takes part already, or it has too few settings to try.
    """
    if name in {entry.key for entry in config.methods}:
        raise ConfigError(f"--enter {name}: it takes part already; --only {name} runs it alone")
    known = methods.names()
    if name not in known:
        raise ConfigError(f"--enter {name}: no such method{did_you_mean(name, known)} (known: {', '.join(known)})")
    declares = bool(methods.get(name).Params.search_space())
    entry = ComparedMethod(name=name, tune=(declares or {}) if config.tuning is not None else False)
    budgets = tuple(
        budget if budget.methods is None else budget.model_copy(update={"methods": (*budget.methods, name)})
        for budget in config.budgets
    )
    entered = config.model_copy(update={"methods": (*config.methods, entry), "budgets": budgets})
    problems = [str(problem) for problem in comparison_problems(entered)]
    if problems:
        raise ConfigError(f"--enter {name}: {'; '.join(problems)}")
    return entered


def load_comparison_config(path: Path | str, overrides: Iterable[Override] = ()) -> ComparisonConfig:
    """Read and check a comparison file.

    Raises:
        ConfigError: the file cannot be read, or one message with all that is wrong in it.
    """
    return load_file(path, overrides, COMPARISON)
