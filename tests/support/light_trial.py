"""Stand-in for `cspbench.trials.run` that needs nothing: every trial fails."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from cspbench.errors import CspbenchError


def run_trial(*_: Any, **__: Any) -> None:
    raise CspbenchError("not today")


def train_dense(*_: Any, **__: Any) -> None:
    return None


def install() -> None:
    module = ModuleType("cspbench.trials.run")
    module.__dict__.update(run_trial=run_trial, train_dense=train_dense)
    sys.modules["cspbench.trials.run"] = module
