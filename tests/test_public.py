"""The public face: names that are imported when they are asked for, and examples in docstrings that run."""

from __future__ import annotations

import doctest
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import matplotlib as mpl
import pytest

import cspbench
from cspbench import report
from cspbench.errors import ConfigError
from cspbench.result import TrialResult

DATA = Path(__file__).resolve().parent / "data" / "runs_v1"
EXAMPLES = (
    *("cspbench", "cspbench.report", "cspbench.report.frames", "cspbench.report.results", "cspbench.report.screen"),
    *("cspbench.report.trial", "cspbench.units"),
)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a study `smoke` has been run."""
    shutil.copytree(DATA, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    return tmp_path / "runs"


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run_as_printed(name: str) -> None:
    found = doctest.testmod(import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("package", ["cspbench", "cspbench.report", "cspbench.runtime", "cspbench.comparison.report"])
def test_every_public_name_is_there_and_documented(package: str) -> None:
    module = import_module(package)
    for name in module.__all__:
        assert getattr(module, name).__doc__ or name in ("__version__", "LAYERS"), name
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        _ = module.nonsense


def test_nothing_heavy_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, cspbench, cspbench.report; "
        "assert not {'pandas', 'torch', 'matplotlib', 'optuna', 'mlflow'} & set(sys.modules); "
        "cspbench.load_results; assert 'pandas' in sys.modules; assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_trial_is_read_back_in_one_line() -> None:
    id = "858e4cbb85e9b241"
    trial = cspbench.trial("858", root="runs")
    assert trial.id == trial.spec.id == trial.result.trial_id == id
    assert isinstance(trial.result, TrialResult)
    assert trial.hypotheses["edits"].sum() == trial.result.test.edits
    assert dict(zip(trial.layers["layer"], trial.layers["sparsity"], strict=True)) == trial.result.layer_sparsity
    with pytest.raises(ConfigError, match=r"no trial 'beef': .*runs has none"):
        cspbench.trial("beef")
    with pytest.raises(ConfigError, match="4 trials start so: 0ea10ccbed4be471, 5f0b"):
        cspbench.trial("")


def test_plots_take_frames_and_return_axes() -> None:
    trials = report.load_results("smoke")
    for plot in (report.plot_wer_vs_sparsity, report.plot_wer_vs_latency, report.plot_latency_vs_sparsity):
        assert plot(trials, mpl.figure.Figure().subplots()).get_title()
    curves = report.load_curves("smoke")
    axes = report.plot_curves(curves, "dev_wer", axes=mpl.figure.Figure().subplots())
    assert {text.get_text() for text in axes.get_legend().get_texts()} == {*trials["method"]}
    assert (
        report.plot_curves(
            report.load_curves("smoke"), "gradient_norm", axes=mpl.figure.Figure().subplots()
        ).get_legend()
        is None
    )
    dots = report.plot_dev_vs_test(trials, mpl.figure.Figure().subplots()).collections
    assert sum(len(dot.get_offsets()) for dot in dots) == 4
    ids = trials.set_index("method")["trial_id"]
    difference = report.compare_trials([ids["csp"]], [ids["magnitude"]])
    axes = report.plot_differences([difference], ["csp"], mpl.figure.Figure().subplots())
    assert [label.get_text() for label in axes.get_yticklabels()] == ["csp"]
