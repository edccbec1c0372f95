"""`cspbench retry`: failed trials again, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import fake_trial
from support.fake_trial import calls

from cspbench.config import SweepConfig
from cspbench.errors import ConfigError
from cspbench.report.results import load_results
from cspbench.store import Store
from cspbench.sweep.retry import retry
from cspbench.sweep.runner import run_sweep
from cspbench.trials.progress import Lines

Configure = Callable[..., SweepConfig]
pytestmark = pytest.mark.usefixtures("fake_trials")


def test_failed_trials_run_again_and_the_sweep_goes_on_with_them(
    configure: Configure, store: Store, display: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(sparsity=[0.13, 0.5], trials=3)  # two settings of 13 % fail, one of 50 % finishes
    run_sweep(config, store, display)
    first, second = (outcome.spec.id for outcome in retry("demo", store, display))
    assert calls(store.root).count(first) == calls(store.root).count(second) == 2
    monkeypatch.setattr(fake_trial, "_misbehave", lambda spec, store: None)
    (outcome,) = retry("demo", store, display, only=first)
    assert outcome.result is not None
    assert sorted(load_results("demo", store.root)["state"]) == ["complete", "complete", "failed"]
    before = len(calls(store.root))
    assert run_sweep(config, store, display).failures == []
    assert len(calls(store.root)) == before + 1, "the one that succeeded is told, not run again"
    assert retry("demo", store, display) == []


def test_a_trial_that_was_stopped_early_is_promoted_by_its_id(
    configure: Configure, store: Store, display: Lines
) -> None:
    entry = {"name": "csp", "params": {"damping": [0.01, 0.05]}}
    early = {"mode": "cells", "early_stopping": {"name": "median", "startup": 1}}
    run_sweep(configure(sparsity=[0.5], methods=[entry], **early), store, display)
    frame = load_results("demo", store.root)
    assert frame["state"].tolist() == ["complete", "stopped"]
    assert retry("demo", store, display) == [], "it has not failed"
    (outcome,) = retry("demo", store, display, only=frame["trial_id"][1])
    assert outcome.state == "complete"
    assert (load_results("demo", store.root)["state"] == "complete").all()


def test_what_cannot_be_retried_is_said(configure: Configure, store: Store, display: Lines) -> None:
    run_sweep(configure(trials=1), store, display)
    with pytest.raises(ConfigError, match="no sweep named 'dmo'; did you mean 'demo'"):
        retry("dmo", store, display)
    finished = calls(store.root)[0]
    with pytest.raises(ConfigError, match=f"has no failed or stopped trial '{finished}'; see `cspbench results demo`"):
        retry("demo", store, display, only=finished)
