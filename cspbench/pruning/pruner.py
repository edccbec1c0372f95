"""Pruning of any model in any training loop, through the step hooks of its optimiser.

>>> pruner = Pruner(model, optimizer, method="magnitude", sparsity=0.9, steps=20_000)
>>> ...  # the training loop as it was
>>> pruner.finish()
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from cspbench.errors import PruningError
from cspbench.pruning.binding import Undo, context_for
from cspbench.pruning.earlier import Earlier
from cspbench.pruning.inputs import Calibration
from cspbench.pruning.matrices import Matrices, unwrapped
from cspbench.pruning.method import Progress, PruningMethod
from cspbench.pruning.registry import create, name_of
from cspbench.pruning.report import PruningReport, report_on


class Pruner:
    """A pruning method at work in a training loop that knows nothing of it.

    The optimiser's step hooks drive the method: before a step it sees, and may change, the gradients, after it the
    weights. Gradient scalers, accumulation over several backward passes and closures are provided for; a step that a
    scaler skips does not count. The method starts as the pruner is made: do so after the model is on its device and
    wrapped, and before the first forward pass. After the last step training may go on, and the zeros stay; `finish`
    ends that.

    Two things hooks cannot know, and a loop may say:

    - a loop that clips gradients calls `after_backward` before it clips. Else the gradients of dropped weights count
      towards the clipped norm, and methods learn from clipped gradients;
    - a loop with an auxiliary loss may call `observe_gradients` after the backward pass of the model's own loss.

    A method of several phases (`lottery`) trains longer than `steps`: `phases` says how long, each phase begins with a
    fresh state of the optimiser, and the learning-rate schedule should begin anew as well.

    Args:
        model: any model; in `torch.compile` or `DistributedDataParallel` too. Zeros of the processes of the latter
            agree, calibration data are taken together.
        optimizer: moves all the prunable weights; not one that evaluates a closure several times a step (LBFGS).
        method: name of a method, `cspbench methods` lists them; or one that `cspbench.create` has bound to weights of
            this model, in place of all the arguments that follow but the learning rate.
        sparsity: fraction of zeros among all the prunable weights together, in [0, 1).
        steps: optimiser steps of the training.
        prunable: patterns of parameter names, such as ``encoder.*``; None takes all layers of known kinds, see
            `cspbench.pruning.matrices.Matrices`.
        calibration: called without arguments whenever a method measures inputs: runs the model on some batches, by
            itself or as the iterable it returns is drawn, such as ``lambda: (model(x) for x in batches)``. It runs the
            same data each time; a hundred utterances are enough. Padding counts as input, except within
            `cspbench.pruning.inputs.positions` and in a `PackedSequence`. None where there is no such data; methods
            that need some say so.
        earlier: for methods that rewind: the model's state dict at a fraction of its training, as a function of the
            fraction, or a folder that holds ``0.5.pt`` or ``0.5.safetensors``, and so on.
        learning_rate: of a step in [0, steps), for methods that plan with it; None where it is constant.
        seed: of whatever the method draws at random.
        hyperparameters: options of the method.

    Raises:
        ConfigError: an unknown method, or options it does not take.
        PruningError: the method cannot do what it is asked, or a model, optimiser or pattern that cannot be used.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        method: str | PruningMethod = "csp",
        sparsity: float | None = None,
        steps: int | None = None,
        prunable: Sequence[str] | None = None,
        calibration: Calibration | None = None,
        *,
        earlier: Earlier | None = None,
        learning_rate: Callable[[int], float] | None = None,
        seed: int = 0,
        **hyperparameters: Any,
    ) -> None:
        self._model = unwrapped(model)
        self._optimizer = _innermost(optimizer)
        if isinstance(method, PruningMethod):
            if sparsity is not None or steps is not None or hyperparameters:
                raise PruningError("a method that is bound already has its sparsity, steps and options: leave them out")
            self.method = method
            self._matrices = Matrices(self._model, list(method.context.weights))
            _check_bound(method, self._matrices)
        else:
            if sparsity is None or steps is None:
                raise PruningError("say which sparsity, and how many optimiser steps the training takes")
            self._matrices, context = context_for(
                model, prunable, sparsity, steps, calibration, earlier, learning_rate=learning_rate, seed=seed
            )
            self.method = create(method, hyperparameters, context)
        self._rate_group = _group_of(self._optimizer, self._matrices.parameters)
        self._name = name_of(self.method)
        self.phases = [phase.steps for phase in self.method.phases()]
        self.step = 0
        self._observed = self._prepared = self._skipped = False
        self._held: list[Tensor] | None = None
        self._undo = Undo(self._model)
        self._start()
        self._undo.changed()
        self._hooks = [
            self._optimizer.register_step_pre_hook(self._before_step),
            self._optimizer.register_step_post_hook(self._after_step),
        ]

    @property
    def total(self) -> int:
        """Optimiser steps of the whole training, over all phases."""
        return sum(self.phases)

    @property
    def observes_gradients(self) -> bool:
        """True if the method wants `observe_gradients` in this step."""
        return self._held is None and self.step < self.total and self.method.observes_gradients(self._progress())

    def observe_gradients(self, scale: float = 1.0) -> None:
        """Show the method the gradients of the model's own loss, where an auxiliary loss is still to be added.

        Without this call, once in a step in which `observes_gradients`, methods see the gradients of the whole loss.

        Args:
            scale: that gradients are multiplied by, as by a gradient scaler.
        """
        if self.observes_gradients:
            self._matrices.gradients.take()
            found = {name: w.grad / scale for name, w in self._weights.items() if w.grad is not None}
            self.method.observe_gradients(self._progress(), found)
            self._matrices.gradients.give_back()
            self._observed = True

    def after_backward(self) -> None:
        """Let the method see and change the gradients: after the last backward pass of a step, before clipping.

        A gradient scaler must have unscaled them. A loop that does not clip need not call this.
        """
        self._prepared = True
        if self.step >= self.total:
            self._hold()
            found = [(p.grad, mask) for p, mask in self._held_weights() if p.grad is not None]
            if found:
                torch._foreach_mul_([grad for grad, _ in found], [mask for _, mask in found])
            return
        if not self._observed:
            self.observe_gradients()
        self._observed = False  # a scaler may skip this step, and the next attempt is observed anew
        self._matrices.gradients.take()
        self.method.after_backward(self._progress())
        self._matrices.gradients.give_back()

    def finish(self) -> PruningReport:
        """Leave exactly the zeros asked for, let go of the optimiser, and count.

        Warns where the training was shorter than it was said to be.
        """
        self._matrices.check()
        if self.step < self.total:
            warnings.warn(f"pruning ends at step {self.step} of {self.total}: the rest goes at once", stacklevel=2)
        self._hold()
        for hook in self._hooks:
            hook.remove()
        self._undo.forget()
        return self.report()

    def masks(self) -> dict[str, Tensor]:
        """Masks by parameter name: bool, True where a weight is kept, in the shape of the parameter."""
        return {name: mask.view(self._matrices.parameters[name].shape) for name, mask in self.method.masks().items()}

    def report(self) -> PruningReport:
        """Zeros of the weights as they are now, counted."""
        return report_on(self._name, self.method.context.sparsity, self._weights, self.step, self.total)

    def state_dict(self) -> dict[str, Any]:
        """State between two steps: with those of model and optimiser it continues the training bit for bit."""
        return {"method": self._name, "step": self.step, "total": self.total, "state": self.method.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state_dict`, before the first step; model and optimiser may be loaded before or after.

        Raises:
            PruningError: a state of another method, model or length of training.
        """
        self._matrices.check()
        found, own = (state.get("method"), state.get("total")), (self._name, self.total)
        if found != own:
            raise PruningError("this state is of {} over {} steps, not of {} over {}".format(*found, *own))
        self._undo.restore()
        self.method.load_state_dict(state["state"])
        self.step = int(state["step"])
        self._observed = self._prepared = False
        self._held = None

    @property
    def _weights(self) -> Mapping[str, nn.Parameter]:
        return self.method.context.weights

    def _start(self) -> None:
        self.method.start()
        if self.total:
            self.method.begin_phase(0)
            self.method.before_forward(self._progress())

    def _place(self) -> tuple[int, int]:
        """Phase of the current step, and the step within it."""
        within = self.step
        for phase, steps in enumerate(self.phases):
            if within < steps:
                return phase, within
            within -= steps
        raise AssertionError("step beyond the last phase")

    def _progress(self) -> Progress:
        rate = float(self._rate_group["lr"])
        return Progress(step=self.step, total=self.total, phase=self._place()[0], learning_rate=rate)

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._undo.forget()
        _, *given = args  # the first is the optimiser
        closure = given[0] if given else kwargs.get("closure")
        if closure is None:
            self._prepare()
            return None
        calls = 0

        def wrapped() -> Any:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise PruningError("this optimiser evaluates its closure several times a step: take another")
            loss = closure()
            self._prepare()
            return loss

        return ((optimizer, wrapped), kwargs) if given else (args, {**kwargs, "closure": wrapped})

    def _prepare(self) -> None:
        """Unscale gradients that a fused optimiser would unscale itself, and show them to the method."""
        overflow = getattr(self._optimizer, "found_inf", None)
        self._skipped = overflow is not None and bool(overflow)
        if self._skipped or self._prepared:
            return
        scale = getattr(self._optimizer, "grad_scale", None)
        if scale is not None:
            every = [p.grad for group in self._optimizer.param_groups for p in group["params"] if p.grad is not None]
            torch._foreach_mul_(every, 1 / float(scale))
            self._optimizer.grad_scale = None  # type: ignore[attr-defined]
        self.after_backward()

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._observed = self._prepared = False
        if self._skipped:
            return
        if self.step >= self.total:
            self._apply_held()
            return
        self.method.after_step(self._progress())
        self.step += 1
        if self.step < self.total:
            phase, within = self._place()
            if within == 0:
                self._optimizer.state.clear()
                self.method.begin_phase(phase)
            self.method.before_forward(self._progress())

    def _hold(self) -> None:
        """Finish, once: from here on the masks are those there are."""
        if self._held is None:
            self.method.finish()
            masks = self.masks()
            self._held = [masks[name].to(p.dtype) for name, p in self._matrices.parameters.items()]

    def _held_weights(self) -> list[tuple[nn.Parameter, Tensor]]:
        assert self._held is not None
        return list(zip(self._matrices.parameters.values(), self._held, strict=True))

    @torch.no_grad()
    def _apply_held(self) -> None:
        for parameter, mask in self._held_weights():
            parameter.mul_(mask)


def _innermost(optimizer: Any) -> Optimizer:
    """The optimiser of torch inside those that others wrap around it, such as that of accelerate."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    if not isinstance(optimizer, Optimizer) or isinstance(optimizer, LBFGS):
        raise PruningError(
            f"{type(optimizer).__name__} cannot drive pruning: it takes one of torch that needs one gradient a step"
        )
    return optimizer


def _group_of(optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Any]:
    """The parameter group that holds the first of the prunable weights; its learning rate is the one methods see."""
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    if missing := [name for name, p in parameters.items() if id(p) not in groups]:
        raise PruningError(
            f"the optimiser does not train {', '.join(missing)}: make it from this model's parameters, or leave these "
            "out of `prunable`"
        )
    return next((groups[id(p)] for p in parameters.values()), optimizer.param_groups[0])


def _check_bound(method: PruningMethod, matrices: Matrices) -> None:
    for name, weight in method.context.weights.items():
        if matrices.matrices.get(name) is not weight:
            raise PruningError(f"the method is bound to '{name}', which is not a weight matrix of this model")
