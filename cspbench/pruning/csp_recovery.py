"""Which weights: sparse recovery of all matrices at once, under one budget of zeros."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from cspbench.errors import PruningError
from cspbench.hyper import Search
from cspbench.pruning.mask import select
from cspbench.pruning.masked import RampParams
from cspbench.sensing import Gram, Identity, Operator, debias, fista, ista, random_operator

Matrices = Mapping[str, Tensor]

_LAST = 1e-12
"""Scales weights so far down that they rank behind everything recovered, in their own order."""

Ensemble = Literal["activation", "identity", "gaussian", "rademacher", "dct"]


class SensingParams(RampParams):
    """Options of sensing and recovery."""

    ensemble: Annotated[Ensemble, Search(choices=("activation", "identity", "gaussian", "rademacher", "dct"))] = Field(
        "activation", description="what measures the weights: the layer's own inputs, the weights, random projections"
    )
    measurement_ratio: Annotated[float, Search(0.25, 1.0)] = Field(
        0.5, gt=0, le=1, description="measurements per input of a random ensemble (gaussian, rademacher, dct)"
    )
    damping: Annotated[float, Search(0.005, 0.06, log=True)] = Field(
        0.02, ge=0, le=1, description="activation: added to the diagonal of the Gram, as a share of its mean"
    )
    recovery: Annotated[Literal["htp", "iht", "ista", "fista"], Search(choices=("htp", "iht", "ista", "fista"))] = (
        Field("htp", description="solver: constrained to the count (htp, iht), or l1-penalised and cut (ista, fista)")
    )
    iterations: Annotated[int, Search(1, 20, log=True)] = Field(
        1, ge=1, le=1000, description="solver iterations from the weights as they are; the first chooses by magnitude"
    )
    penalty: Annotated[float, Search(1e-4, 0.1, log=True)] = Field(
        0.01, ge=0, lt=1, description="ista, fista: weight of the l1 norm, as a share of that which leaves nothing"
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
        PruningError: the activation ensemble without calibration data, or a second moment that does not fit.
    """
    if params.ensemble == "identity":
        return {name: Identity(w.shape[1], w.device) for name, w in weights.items()}
    if params.ensemble == "activation":
        return _activation(weights, params.damping, grams)
    return {
        name: random_operator(params.ensemble, w.shape[1], params.measurement_ratio, seed + index, w.device)
        for index, (name, w) in enumerate(weights.items())
    }


def _activation(
    weights: Matrices, damping: float, grams: Callable[[], dict[str, Tensor]] | None
) -> dict[str, Operator]:
    if grams is None:
        raise PruningError(
            "csp with ensemble 'activation' measures the inputs of each layer, and there is no calibration data here: "
            "choose ensemble 'identity', 'gaussian', 'rademacher' or 'dct'"
        )
    moments = grams()
    operators: dict[str, Operator] = {}
    for name, weight in weights.items():
        moment = moments.get(name)
        wanted = (weight.shape[1], weight.shape[1])
        if moment is None or moment.shape != wanted:
            found = "missing" if moment is None else f"of shape {tuple(moment.shape)}"
            raise PruningError(f"the second moment of the inputs of '{name}' should have shape {wanted}, it is {found}")
        operators[name] = Gram(moment.to(weight.device, torch.float32), damping)
    return operators


@torch.no_grad()
def recover(
    weights: Matrices, operators: Mapping[str, Operator], zeros: int, params: SensingParams
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sparse matrices whose measurements are close to those of `weights`.

    Args:
        weights: float matrices by name, each of shape (out, in); also the warm start.
        operators: sensing operator by name.
        zeros: entries to drop, over all matrices.
        params: solver and its options.

    Returns:
        Masks (bool, True where kept; exactly `zeros` False) and values (zero where dropped), both by name.
    """
    targets = {name: operators[name].normal(w) for name, w in weights.items()}
    if params.recovery in ("ista", "fista"):
        found = {name: _penalised(operators[name], targets[name], weights[name], params) for name in weights}
        # The penalty may leave fewer weights than are wanted: the largest of the others come back as they were.
        ranked = {name: x.where(x != 0, _LAST * weights[name]) for name, x in found.items()}
        masks = _support(ranked, zeros, params)
        found = {name: x.where(x != 0, weights[name]) for name, x in found.items()}
    else:
        masks, found = _constrained(weights, operators, targets, zeros, params)
        if params.recovery == "htp":
            return masks, found
    return masks, _fit(operators, targets, masks, found, params.debias_steps)


def _penalised(operator: Operator, target: Tensor, weight: Tensor, params: SensingParams) -> Tensor:
    solver = ista if params.recovery == "ista" else fista
    level = params.penalty * target.abs().max()
    return solver(operator, target, level, start=weight, iterations=params.iterations).solution


def _constrained(
    weights: Matrices, operators: Mapping[str, Operator], targets: Matrices, zeros: int, params: SensingParams
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Hard thresholding of all matrices in lockstep, because a global budget couples them.

    Keeps the best iterate: regrowth that does not lower the compression error is refused.
    """
    pursuit = params.recovery == "htp"
    candidates = dict(weights)
    best: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    lowest = math.inf
    for done in range(params.iterations):
        masks = _support(candidates, zeros, params)
        values = {name: x * masks[name] for name, x in candidates.items()}
        if pursuit:
            values = _fit(operators, targets, masks, values, params.debias_steps)
        if params.iterations > 1:
            error = compression_error(weights, values, operators)
            if not error < lowest:
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


def _support(candidates: Matrices, zeros: int, params: SensingParams) -> dict[str, Tensor]:
    # What is at zero already ranks last, so that a block cut in part does not come back with nothing in it.
    return select({name: x.abs().masked_fill(x == 0, -torch.inf) for name, x in candidates.items()}, zeros, params)


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
