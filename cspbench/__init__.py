"""cspbench: pruning of speech recognisers put to the test.

A sweep, its results and one of its trials (after ``cspbench sweep sweeps/smoke.yaml``, or `run_sweep`):

    >>> import cspbench
    >>> results = cspbench.load_results("smoke")
    >>> results[["method", "sparsity", "test_wer", "size_bytes", "latency_ms"]].shape
    (4, 5)
    >>> best = cspbench.trial(results.sort_values("dev_wer", kind="stable")["trial_id"].iloc[0])
    >>> best.spec.method.name, best.result.sparsity
    ('csp', 0.8)
    >>> best.curve[["step", "dev_wer"]].shape, best.hypotheses.shape, best.layers.shape
    ((1, 2), (12, 6), (9, 2))

What each name is for:

- `load_config` reads a sweep file, `run_sweep` runs it, `load_results` returns its trials as a DataFrame;
- `load_curves`, `load_layers` and `load_hypotheses` return training curves, sparsity of layers and test hypotheses;
- `TrialSpec` describes a single trial, `run_trial` runs it, `trial` reads it back;
- `load_model` loads a model that a sweep put into MLflow's registry;
- `Pruner` prunes any torch model in any training loop, `prune` a trained one at once;
- `methods` holds the pruning methods by name, `create` binds one to given weights;
- `recognisers` holds the recognisers that a sweep can train, by name;
- `Recogniser` recognises streaming speech with a packed file;
- `latency` measures any callable by the protocol of the recognisers;
- `report` holds tables, Pareto fronts, tests of significance and figures.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cspbench.lazy import lazy
from cspbench.version import __version__

if TYPE_CHECKING:
    from cspbench import report
    from cspbench.asr.recognisers import recognisers
    from cspbench.config import load_config
    from cspbench.pruning import create
    from cspbench.pruning.at_once import prune
    from cspbench.pruning.pruner import Pruner
    from cspbench.pruning.registry import methods
    from cspbench.report.frames import load_curves, load_hypotheses, load_layers
    from cspbench.report.results import load_results
    from cspbench.report.trial import trial
    from cspbench.runtime.latency.calls import latency
    from cspbench.runtime.recogniser import Recogniser
    from cspbench.spec import TrialSpec
    from cspbench.sweep.models import load_model
    from cspbench.sweep.runner import run_sweep
    from cspbench.trials.run import run_trial

_HOMES = {
    "load_config": "cspbench.config",
    "load_model": "cspbench.sweep.models",
    "run_sweep": "cspbench.sweep.runner",
    "load_results": "cspbench.report.results",
    "load_curves": "cspbench.report.frames",
    "load_layers": "cspbench.report.frames",
    "load_hypotheses": "cspbench.report.frames",
    "trial": "cspbench.report.trial",
    "TrialSpec": "cspbench.spec",
    "run_trial": "cspbench.trials.run",
    "methods": "cspbench.pruning.registry",
    "recognisers": "cspbench.asr.recognisers",
    "create": "cspbench.pruning",
    "Pruner": "cspbench.pruning.pruner",
    "prune": "cspbench.pruning.at_once",
    "Recogniser": "cspbench.runtime.recogniser",
    "latency": "cspbench.runtime.latency.calls",
}
__all__ = [
    "Pruner", "Recogniser", "TrialSpec", "__version__", "create", "latency", "load_config", "load_curves",
    "load_hypotheses", "load_layers", "load_model", "load_results", "methods", "prune", "recognisers", "report",
    "run_sweep", "run_trial", "trial",
]  # fmt: skip

_find = lazy(__name__, _HOMES)


def __getattr__(name: str) -> Any:
    return import_module("cspbench.report") if name == "report" else _find(name)


def __dir__() -> list[str]:
    return __all__
