"""Sparse recovery of all matrices at once, under one budget of zeros."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import torch
from pydantic import Field, model_validator
from torch import Tensor

from cspbench.errors import PruningError
from cspbench.hyper import Added, Search
from cspbench.pruning.bases import ScheduleParams
from cspbench.pruning.calibration import second_moments
from cspbench.pruning.mask import select, select_counts
from cspbench.sensing import Gram, Identity, Operator, debias, fista, ista, random_operator

Matrices = Mapping[str, Tensor]

_LAST = 1e-12
"""Scales weights so far down that they rank behind everything recovered, in their own order."""

Ensemble = Literal["activation", "identity", "gaussian", "rademacher", "dct"]
WiderAllocation = Literal["global", "uniform", "erk", "dual"]
Solver = Literal["none", "debias", "pursuit", "htp", "iht", "ista", "fista"]


class SensingParams(ScheduleParams):
    """Options of sensing and recovery."""

    allocation: Annotated[WiderAllocation, Search(choices=get_args(WiderAllocation))] = Field(  # type: ignore[assignment]
        "global",
        description="rank all matrices together; or the same density each; or ERK; or dual: counts that equalise the "
        "loss-weighted compression error of the next weight to go",
    )
    ensemble: Ensemble = Field(
        "activation", description="measures the weights: the layer's own inputs, the weights, random projections"
    )
    ranking: Annotated[Literal["fisher", "magnitude"], Added()] = Field(
        "fisher", description="weights are ranked by magnitude times Fisher information (see sensitivity), or magnitude"
    )
    sensitivity: Annotated[float, Search(0.25, 0.75)] = Field(
        0.5,
        ge=0,
        le=1,
        description="fisher: 0 ranks by magnitude, 1 by the loss expected if a weight goes, in between a blend of both",
    )
    target: Annotated[Literal["weights", "teacher"], Added()] = Field(
        "weights", description="response to recover: that of the weights as they are, or that of the dense recogniser"
    )
    measurement_ratio: float = Field(
        0.5, gt=0, le=1, description="measurements per input of a random ensemble (gaussian, rademacher, dct)"
    )
    damping: Annotated[float, Search(0.005, 0.06, log=True)] = Field(
        0.02, ge=0, le=1, description="activation: added to the diagonal of the Gram, as a fraction of its mean"
    )
    recovery: Solver = Field(
        "htp",
        description="values of the kept weights: none leaves them; debias is least squares; pursuit is debias with "
        "regrowth; htp is debias with one iteration, else pursuit; iht; ista and fista are l1-penalised, then cut",
    )
    iterations: int = Field(
        1, ge=1, le=1000, description="solver iterations from the weights as they are (pursuit: at least 2)"
    )
    penalty: float = Field(
        0.01,
        ge=0,
        lt=1,
        description="ista, fista: weight of the l1 norm, as a fraction of the least that leaves nothing",
    )
    debias_steps: Annotated[int, Search(4, 40, log=True)] = Field(
        12, ge=0, le=1000, description="conjugate gradient steps that fit the weights on the support; 0 leaves them"
    )

    @model_validator(mode="after")
    def _teacher_needs_responses(self) -> SensingParams:
        if self.target == "teacher" and self.ensemble != "activation":
            raise ValueError("target teacher needs ensemble activation: other ensembles do not measure responses")
        return self

    @property
    def ranks_by_fisher(self) -> bool:
        """True if the support depends on gradients."""
        return self.ranking == "fisher" and self.sensitivity > 0

    @property
    def rounds(self) -> int:
        """Iterations of the solver."""
        fixed = {"none": 1, "debias": 1, "pursuit": max(2, self.iterations)}
        return fixed.get(self.recovery, self.iterations)

    @property
    def fit_steps(self) -> int:
        """Conjugate gradient steps of each fit."""
        return 0 if self.recovery == "none" else self.debias_steps


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


def teacher_targets(weights: Matrices, operators: Mapping[str, Operator], responses: Matrices) -> dict[str, Tensor]:
    """Correlations of the dense model's responses with the inputs, damped towards the weights as they are.

    The least-squares problem is ``min_X E ||X x - z||^2 + level ||X - W||^2``, level being the damping of the Gram.

    Args:
        weights: W by name, each of shape (out, in).
        operators: damped second moments of the inputs x, by name.
        responses: ``E[z x^T]`` by name, each of shape (out, in); see `PruningContext.responses`.

    Raises:
        PruningError: a response that is missing, misshapen or not finite.
    """
    targets = {}
    for name, weight in weights.items():
        response, operator = responses.get(name), operators[name]
        if response is None or response.shape != weight.shape or not bool(response.isfinite().all()):
            raise PruningError(f"the dense model's response of '{name}' is missing, misshapen or not finite")
        assert isinstance(operator, Gram)  # the options see to it
        targets[name] = response.to(weight) + operator.level * weight
    return targets


@dataclass(frozen=True)
class RecoveryProblem:
    """Recovery of all matrices: sparse matrices whose measurements are close to the targets'.

    Attributes:
        weights: float matrices by name, each of shape (out, in): the warm start.
        operators: sensing operator by name.
        zeros: entries to drop, over all matrices.
        importance: of a unit of each weight, by name, broadcastable to (out, in); the support is that of the largest
            magnitude times importance. Empty: that of the largest magnitude.
        counts: entries to drop of each matrix, where the allocation of the options does not decide them.
        targets: correlations of the measurements to match, by name, (out, in); None: those of `weights`.
    """

    weights: Matrices
    operators: Mapping[str, Operator]
    zeros: int
    importance: Matrices
    counts: Mapping[str, int] | None = None
    targets: Matrices | None = None

    def correlations(self) -> Matrices:
        """Targets, those of the weights where none are given."""
        if self.targets is not None:
            return self.targets
        return {name: self.operators[name].normal(w) for name, w in self.weights.items()}

    def error(self, values: Matrices) -> float:
        """Compression error of `values`; up to a constant where targets are given."""
        if self.targets is None:
            return compression_error(self.weights, values, self.operators)
        error = 0.0
        for name, x in values.items():
            error += float((x * (self.operators[name].normal(x) - 2 * self.targets[name])).sum())
        return error

    def support(self, candidates: Matrices, params: SensingParams) -> dict[str, Tensor]:
        """Masks of the largest candidates."""
        # What is at zero already ranks last, so that a block cut in part does not come back with nothing in it.
        ranks = {
            name: (x.abs() * self.importance.get(name, 1.0)).masked_fill(x == 0, -torch.inf)
            for name, x in candidates.items()
        }
        return select(ranks, self.zeros, params) if self.counts is None else select_counts(ranks, self.counts, params)


@torch.no_grad()
def recover(problem: RecoveryProblem, params: SensingParams) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Solve a problem by the solver that the options name.

    Returns:
        Masks (bool, True where kept; exactly ``problem.zeros`` False) and values (zero where dropped), both by name.
    """
    targets = problem.correlations()
    if params.recovery in ("ista", "fista"):
        weights = problem.weights
        found = {name: _penalised(problem.operators[name], targets[name], weights[name], params) for name in weights}
        # The penalty may leave fewer weights than asked for: the largest of the others come back as they were.
        masks = problem.support({name: x.where(x != 0, _LAST * weights[name]) for name, x in found.items()}, params)
        found = {name: x.where(x != 0, weights[name]) for name, x in found.items()}
    else:
        masks, found = _constrained(problem, targets, params)
        if params.recovery != "iht":
            return masks, found
    return masks, _fit(problem.operators, targets, masks, found, params.fit_steps)


def _penalised(operator: Operator, target: Tensor, weight: Tensor, params: SensingParams) -> Tensor:
    solver = ista if params.recovery == "ista" else fista
    level = params.penalty * target.abs().max()
    return solver(operator, target, level, start=weight, iterations=params.iterations).solution


def _constrained(
    problem: RecoveryProblem, targets: Matrices, params: SensingParams
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Hard thresholding of all matrices in lockstep, because a global budget couples them.

    Keeps the best iterate: regrowth that does not lower the compression error is refused.
    """
    operators = problem.operators
    fits = params.recovery != "iht"
    candidates = dict(problem.weights)
    best: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    lowest = math.inf
    for done in range(params.rounds):
        masks = problem.support(candidates, params)
        values = {name: x * masks[name] for name, x in candidates.items()}
        if fits:
            values = _fit(operators, targets, masks, values, params.fit_steps)
        if params.rounds > 1:
            error = problem.error(values)
            if done and not error < lowest:
                break
            lowest = error
        best = (masks, values)
        if done + 1 < params.rounds:
            candidates = {
                name: x + (targets[name] - operators[name].normal(x)) / _curvature(operators[name], fits)
                for name, x in values.items()
            }
    return best


def _curvature(operator: Operator, fits: bool) -> float:
    # Pursuit asks how far a weight would go by itself; plain thresholding needs a step that cannot diverge.
    return operator.mean_curvature if fits else operator.lipschitz


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
