"""Samplers and rules of early stopping of a sweep file, as Optuna has them."""

from __future__ import annotations

import hashlib
import warnings

import optuna

from cspbench.config import EarlyStopping, SamplerSpec


def make_sampler(spec: SamplerSpec, asked: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of a sweep file.

    Args:
        spec: its part of the file.
        asked: trials that the study has; part of the seed, so that a resumed study does not draw its first ones again.
    """
    seed = int.from_bytes(hashlib.sha256(f"{spec.seed}/{asked}".encode()).digest()[:4], "big")
    random = optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # qmc and nsga3 have been so for years
        match spec.name:
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed)
            case "nsga2":
                return optuna.samplers.NSGAIISampler(seed=seed)
            case "nsga3":
                return optuna.samplers.NSGAIIISampler(seed=seed)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, independent_sampler=random, warn_independent_sampling=False)
            case "qmc":  # the study counts how much of the sequence it has had: its seed must not change
                return optuna.samplers.QMCSampler(
                    scramble=True, seed=spec.seed, independent_sampler=random, warn_independent_sampling=False
                )
    return random  # also for a grid, whose points are queued


def make_pruner(spec: EarlyStopping | None, epochs: int) -> optuna.pruners.BasePruner:
    """Return the rule that stops trials early.

    Args:
        spec: its part of the sweep file; None stops none.
        epochs: of a whole trial.
    """
    if spec is None:
        return optuna.pruners.NopPruner()
    if spec.name == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=spec.startup, n_warmup_steps=spec.warmup)
    if spec.name == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=spec.warmup, reduction_factor=spec.factor)
    return optuna.pruners.HyperbandPruner(min_resource=spec.warmup, max_resource=epochs, reduction_factor=spec.factor)
