"""Compressed-sensing based pruning: sparse recovery inside training.

Formulation after Zhen, Nguyen, Chang, Mouchtaris & Rastrow, ICASSP 2021 (arXiv:2102.04932), details ours. The paper
casts pruning as a dual problem, inducing sparsity and reducing the compression error, and answers two questions:

- *which* weights go: measure a matrix W by a sensing operator Phi, ``Y = W Phi^T``, and recover a sparse What from Y
  (`recovery`). With the activation ensemble ``Phi^T Phi`` is the second moment of the layer's own inputs, so that a
  measurement is the layer's response and recovery keeps the response, not the weights;
- *when* they go: the number of zeros follows a ramp, and W becomes What either at once, or by a pull towards What that
  grows until the residual vanishes, with weights leaving one by one as their part of the error becomes small.

Four parts, each of which can be switched off:

- `ranking`: the support holds the weights of largest magnitude times a power of their Fisher information
  (`cspbench.pruning.fisher`), or of largest magnitude;
- `recovery`: the kept weights stay as they are (none), are fitted by least squares (debias), or alternate between fit
  and regrowth (pursuit);
- `target`: the response to keep is that of the weights as they are, or that of the dense recogniser (teacher);
- `allocation`: one ranking over all matrices (global), or counts from one multiplier (dual; `csp.dual`).

At its defaults, then, it is gradual optimal brain damage with a damped Fisher ranking and a layer-wise least-squares
refit. `csp_penalised` is the penalised form.

All of it acts on the weights after the optimiser's step, decoupled from it as AdamW's weight decay is: Adam would scale
the gradient of a penalty by the history of the task's gradient, and the penalty would dominate or vanish.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from cspbench.errors import PruningError
from cspbench.hyper import Search
from cspbench.pruning.bases import RampedMethod
from cspbench.pruning.calibration import check_calibration
from cspbench.pruning.fisher import GRADIENT_INTERVAL, fisher_diagonal, importance, update_rows
from cspbench.pruning.method import Phase, Progress, PruningContext
from cspbench.pruning.methods.csp.dual import dual_counts, update_left
from cspbench.pruning.methods.csp.recovery import (
    RecoveryProblem,
    SensingParams,
    build_operators,
    recover,
    teacher_targets,
)
from cspbench.pruning.registry import register
from cspbench.sensing import Operator


class CSPParams(SensingParams):
    """Options of compressed-sensing pruning: sensing and recovery, and when weights go."""

    fine_tune: bool = Field(
        True, description="prune inside training; false: recover once, after training, and do not train again"
    )
    calibration: Annotated[int, Search(16, 128, log=True)] = Field(
        64, ge=1, description="utterances on which a sensing measures the inputs, each time the next ones"
    )
    end: Annotated[float, Search(0.3, 0.8)] = Field(
        0.6, ge=0.3, le=1, description="the ramp is complete after this fraction of the steps"
    )
    interval: Annotated[int, Search(5, 40, log=True)] = Field(
        20, ge=1, description="steps between two sensings, at most (a short ramp still gets 8 stages)"
    )
    patience: int = Field(
        0, ge=0, le=100, description="sensings a weight must stay outside the support before it goes; 0: all go at once"
    )
    tolerance: float = Field(
        0.1, ge=0, description="patience > 0: a weight goes if its error is at most this multiple of the matrix's mean"
    )
    rho: float = Field(
        0.05, gt=0, le=1, description="patience > 0: fraction of the residual removed a step; grows to 1 along the ramp"
    )
    shrink: float = Field(
        0.0, ge=0, description="lambda: l1 shrinkage of the weights a step during the ramp, times the learning rate"
    )


@register("csp")
class CSP(RampedMethod):
    """Compressed-sensing pruning; see the module's docstring.

    With ``patience: 0`` every sensing replaces W by What. With patience, W is pulled towards What by the fraction `rho`
    of the residual a step: the Newton step of ``rho/2 ||(W - What) Phi^T||^2``, as a gradient step would stand still
    along the small eigenvalues of an activation Gram. What is left at the end of the ramp goes then.

    With ``fine_tune: false`` the trained weights are recovered once, and that is all: what is compared with Wanda and
    SparseGPT. No gradient is seen then, and weights rank by magnitude and inputs.

    Raises PruningError where the activation ensemble is asked for and there is no calibration data, or the target
    teacher and no dense model.
    """

    Params = CSPParams
    params: CSPParams
    summary = "sparse recovery of each layer's response inside training, weights outside the support go"
    source = "after Zhen et al. 2021, Sparsification via Compressed Sensing for ASR, arXiv:2102.04932; details ours"

    def __init__(self, params: CSPParams, context: PruningContext) -> None:
        super().__init__(params, context)
        if params.ensemble == "activation":
            check_calibration(context, "csp", "choose ensemble 'identity', 'gaussian', 'rademacher' or 'dct'")
        if params.target == "teacher" and context.zeros and context.responses is None:
            raise PruningError("csp: target teacher needs the dense model, and there is none here: set target: weights")
        patient = context.weights if params.patience else {}
        self._recovered = {name: w.detach().clone() for name, w in patient.items()}
        self._outside = {name: torch.zeros_like(w, dtype=torch.int16) for name, w in patient.items()}
        # On the CPU: they are read at every step.
        self._flags = {"aimed": torch.tensor(False), "sensings": torch.tensor(0)}
        self._rows = {name: w.new_zeros(w.shape[0], 1) for name, w in context.weights.items()}
        self.register_state(recovered="_recovered", outside="_outside", rows="_rows", csp="_flags")
        if params.allocation == "dual":
            self._left = {name: w.new_ones(()) for name, w in context.weights.items()}
            self.register_state(left="_left")

    def phases(self) -> list[Phase]:
        """The whole budget, or none."""
        return super().phases() if self.params.fine_tune else []

    def start(self) -> None:
        """Prune what is due before the first step; all of it where there is no training."""
        if self.params.fine_tune:
            super().start()
        elif self.context.zeros:
            self._prune(self.context.zeros)

    def observes_gradients(self, progress: Progress) -> bool:
        """Return True for every `GRADIENT_INTERVAL`-th step until the ramp ends, if anything depends on gradients."""
        if not self.context.zeros or not (self.params.ranks_by_fisher or self.params.allocation == "dual"):
            return False
        return progress.step < self.schedule.last and not progress.step % GRADIENT_INTERVAL

    def observe_gradients(self, progress: Progress, gradients: Mapping[str, Tensor]) -> None:
        """Update the running mean of the squared gradient of each row."""
        update_rows(self._rows, gradients)

    @torch.no_grad()
    def after_step(self, progress: Progress) -> None:
        """Shrink, pull, and sense what is due."""
        done = progress.step + 1
        if self.context.zeros and self.schedule.first < done <= self.schedule.last:
            self._pull(progress)
        super().after_step(progress)

    def _pull(self, progress: Progress) -> None:
        place = self.schedule.progress(progress.step + 1)
        for name, weight in self.context.weights.items():
            if self.params.shrink:
                # At most half way: a kept weight that became zero would spoil the count.
                level = progress.learning_rate * self.params.shrink
                weight.sub_(weight.sign() * (weight.abs() / 2).clamp_max(level))
            if self.params.patience and self._flags["aimed"]:
                weight.lerp_(self._recovered[name], self.params.rho ** (1 - place))

    @torch.no_grad()
    def _prune(self, zeros: int) -> None:
        """Sense, recover with `zeros` zeros, and let go what may go."""
        self._apply()
        context = self.context
        weights = {name: w.detach().float() for name, w in context.weights.items()}
        # What was recovered so far differs with every sensing, and so must a random operator.
        seed = (context.seed * 1_000_003 + zeros) * 1009
        utterances = self._next_utterances()
        grams = context.grams
        operators = build_operators(weights, self.params, seed, None if grams is None else lambda: grams(*utterances))
        support, values = recover(self._problem(weights, operators, zeros, utterances), self.params)
        if not all(bool(x.isfinite().all()) for x in values.values()):
            raise PruningError("csp recovered weights that are not finite: raise damping or lower the learning rate")
        if self.params.allocation == "dual":
            update_left(self._left, weights, values, operators, self._rows)
        if self.params.patience and zeros < context.zeros:
            self._wait(support, values, operators)
            return
        self._masks = support
        self._flags["aimed"].fill_(False)  # W is What: to pull on would only hold the training back
        for name, weight in context.weights.items():
            weight.copy_(values[name])

    def _problem(
        self, weights: dict[str, Tensor], operators: dict[str, Operator], zeros: int, utterances: tuple[int, ...]
    ) -> RecoveryProblem:
        """Recovery problem of this sensing, as the options have it."""
        problem = RecoveryProblem(weights, operators, zeros, {})
        if self.params.ranks_by_fisher or self.params.allocation == "dual":
            powers = {name: operator.gram().diagonal() for name, operator in operators.items()}
            if self.params.ranks_by_fisher:
                problem = replace(problem, importance=importance(powers, self._rows, self.params.sensitivity))
            if self.params.allocation == "dual":
                fisher = fisher_diagonal(powers, self._rows)
                counts = dual_counts(weights, fisher, self._left, zeros, self.params.pattern)
                problem = replace(problem, counts=counts)
        if self.params.target == "teacher":
            assert self.context.responses is not None
            responses = self.context.responses(*utterances)
            problem = replace(problem, targets=teacher_targets(weights, operators, responses))
        return problem

    def _next_utterances(self) -> tuple[int, ...]:
        """Arguments of `PruningContext.grams`: the utterances of this sensing."""
        if self.context.grams is None or not self.params.fine_tune:
            return ()
        done = int(self._flags["sensings"])
        self._flags["sensings"].add_(1)
        return self.params.calibration, done * self.params.calibration

    def _wait(
        self, support: Mapping[str, Tensor], values: Mapping[str, Tensor], operators: Mapping[str, Operator]
    ) -> None:
        """Aim at the recovered weights; let go those that waited long enough and would hardly be missed."""
        self._flags["aimed"].fill_(True)
        for name, weight in self.context.weights.items():
            outside = self._outside[name]
            outside.add_(1).masked_fill_(support[name], 0)
            error = weight.square() * operators[name].gram().diagonal()
            ready = (outside >= self.params.patience) & (error <= self.params.tolerance * error.mean())
            self._masks[name] = self._masks[name] & ~ready
            self._recovered[name].copy_(values[name] * self._masks[name])
