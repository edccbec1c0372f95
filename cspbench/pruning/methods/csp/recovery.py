"""Sparse recovery of all matrices at once, under one budget of zeros."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from cspbench.hyper import Search
from cspbench.pruning.bases import ScheduleParams
from cspbench.pruning.calibration import second_moments
from cspbench.pruning.mask import select
from cspbench.sensing import Gram, Identity, Operator, debias, fista, ista, random_operator

Matrices = Mapping[str, Tensor]

_LAST = 1e-12
"""Scales weights so far down that they rank behind everything recovered, in their own order."""

Ensemble = Literal["activation", "identity", "gaussian", "rademacher", "dct"]


class SensingParams(ScheduleParams):
    """Options of sensing and recovery."""

    ensemble: Annotated[Ensemble, Search(choices=("activation", "identity", "gaussian", "rademacher", "dct"))] = Field(
        "activation", description="measures the weights: the layer's own inputs, the weights, random projections"
    )
    sensitivity: Annotated[float, Search(0.25, 0.75)] = Field(
        0.5,
        ge=0,
        le=1,
        description="ranking: 0 by magnitude, 1 by the loss expected if a weight goes, in between a blend of both",
    )
    measurement_ratio: Annotated[float, Search(0.25, 1.0)] = Field(
        0.5, gt=0, le=1, description="measurements per input of a random ensemble (gaussian, rademacher, dct)"
    )
    damping: Annotated[float, Search(0.005, 0.06, log=True)] = Field(
        0.02, ge=0, le=1, description="activation: added to the diagonal of the Gram, as a fraction of its mean"
    )
    recovery: Annotated[Literal["htp", "iht", "ista", "fista"], Search(choices=("htp", "iht", "ista", "fista"))] = (
        Field("htp", description="solver: constrained to the count (htp, iht), or l1-penalised and cut (ista, fista)")
    )
    iterations: Annotated[int, Search(1, 20, log=True)] = Field(
        1, ge=1, le=1000, description="solver iterations from the weights as they are; the first chooses by magnitude"
    )
    penalty: Annotated[float, Search(1e-4, 0.1, log=True)] = Field(
        0.01,
        ge=0,
        lt=1,
        description="ista, fista: weight of the l1 norm, as a fraction of the least that leaves nothing",
    )
    debias_steps: Annotated[int, Search(4, 40, log=True)] = Field(
        12, ge=0, le=1000, description="conjugate gradient steps that fit the weights on the support; 0 leaves them"
    )


def build_operators(
    weights: Matrices, params: SensingParams, seed: int, grams: Callable[[], dict[str, Tensor]] | None
) -> dict[str, Operator]:
    """One sensing operator a matrix, over its inputs.

    Args:
        weights: matrices by name, each of shape (out, in).
        params: which ensemble.
        seed: of random ensembles.
        grams: see `PruningContext.grams`; called once, for the activation ensemble only.

    Raises:
        PruningError: a second moment of the inputs that does not fit.
    """
    if params.ensemble == "identity":
        return {name: Identity(w.shape[1], w.device) for name, w in weights.items()}
    if params.ensemble == "activation":
        moments = second_moments(weights, grams)
        return {name: Gram(moment, params.damping) for name, moment in moments.items()}
    return {
        name: random_operator(params.ensemble, w.shape[1], params.measurement_ratio, seed + index, w.device)
        for index, (name, w) in enumerate(weights.items())
    }


@torch.no_grad()
def recover(
    weights: Matrices,
    operators: Mapping[str, Operator],
    zeros: int,
    params: SensingParams,
    importance: Matrices | None = None,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sparse matrices whose measurements are close to those of `weights`.

    Args:
        weights: float matrices by name, each of shape (out, in); also the warm start.
        operators: sensing operator by name.
        zeros: entries to drop, over all matrices.
        params: solver and its options.
        importance: of a unit of each weight, by name, broadcastable to (out, in); the support is that of
            the largest magnitude times importance. None or empty: that of the largest magnitude.

    Returns:
        Masks (bool, True where kept; exactly `zeros` False) and values (zero where dropped), both by name.
    """
    targets = {name: operators[name].normal(w) for name, w in weights.items()}
    worth = importance or {}
    if params.recovery in ("ista", "fista"):
        found = {name: _penalised(operators[name], targets[name], weights[name], params) for name in weights}
        # The penalty may leave fewer weights than asked for: the largest of the others come back as they were.
        ranked = {name: x.where(x != 0, _LAST * weights[name]) for name, x in found.items()}
        masks = _support(ranked, worth, zeros, params)
        found = {name: x.where(x != 0, weights[name]) for name, x in found.items()}
    else:
        masks, found = _constrained(weights, operators, targets, worth, zeros, params)
        if params.recovery == "htp":
            return masks, found
    return masks, _fit(operators, targets, masks, found, params.debias_steps)


def _penalised(operator: Operator, target: Tensor, weight: Tensor, params: SensingParams) -> Tensor:
    solver = ista if params.recovery == "ista" else fista
    level = params.penalty * target.abs().max()
    return solver(operator, target, level, start=weight, iterations=params.iterations).solution


def _constrained(
    weights: Matrices,
    operators: Mapping[str, Operator],
    targets: Matrices,
    worth: Matrices,
    zeros: int,
    params: SensingParams,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Hard thresholding of all matrices in lockstep, because a global budget couples them.

    Keeps the best iterate: regrowth that does not lower the compression error is refused.
    """
    pursuit = params.recovery == "htp"
    candidates = dict(weights)
    best: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    lowest = math.inf
    for done in range(params.iterations):
        masks = _support(candidates, worth, zeros, params)
        values = {name: x * masks[name] for name, x in candidates.items()}
        if pursuit:
            values = _fit(operators, targets, masks, values, params.debias_steps)
        if params.iterations > 1:
            error = compression_error(weights, values, operators)
            if done and not error < lowest:
                break
            lowest = error
        best = (masks, values)
        if done + 1 < params.iterations:
            candidates = {
                name: x + (targets[name] - operators[name].normal(x)) / _curvature(operators[name], pursuit)
                for name, x in values.items()
            }
    return best


def _curvature(operator: Operator, pursuit: bool) -> float:
    # Pursuit asks how far a weight would go by itself; plain thresholding needs a step that cannot diverge.
    return operator.mean_curvature if pursuit else operator.lipschitz


def _support(candidates: Matrices, worth: Matrices, zeros: int, params: SensingParams) -> dict[str, Tensor]:
    # What is at zero already ranks last, so that a block cut in part does not come back with nothing in it.
    ranks = {name: (x.abs() * worth.get(name, 1.0)).masked_fill(x == 0, -torch.inf) for name, x in candidates.items()}
    return select(ranks, zeros, params)


def _fit(
    operators: Mapping[str, Operator], targets: Matrices, masks: Matrices, start: Matrices, steps: int
) -> dict[str, Tensor]:
    return {name: debias(operators[name], targets[name], masks[name], x, steps) for name, x in start.items()}


def compression_error(weights: Matrices, values: Matrices, operators: Mapping[str, Operator]) -> float:
    """``sum ||(W - What) Phi^T||^2`` over all matrices."""
    error = 0.0
    for name, weight in weights.items():
        gap = weight - values[name]
        error += float((gap * operators[name].normal(gap)).sum())
    return error
