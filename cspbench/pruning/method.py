"""The protocol every pruning method speaks.

A method sees named weight matrices and knows nothing of speech. The training loop calls it in this order::

    method.start()
    for index, phase in enumerate(method.phases()):
        method.begin_phase(index)              # optimiser and learning-rate schedule are fresh
        for each step:
            method.before_forward(progress)
            loss.backward()
            method.observe_gradients(progress, gradients)   # where method.observes_gradients(progress)
            method.after_backward(progress)
            clip(gradients)                    # after the method has masked them
            optimizer.step()
            method.after_step(progress)
    method.finish()                            # from here on the zeros are exact

All tensors of a method live on the device of the weight they belong to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from cspbench.errors import PruningError
from cspbench.hyper import Hyperparameters
from cspbench.pruning.state import pack, unpack

REWIND_POINTS = (0.0, 0.05, 0.1, 0.25, 0.5)
"""Fractions of the dense training after which its weights are kept, for methods that rewind."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training under one learning-rate cycle of `steps` optimiser steps."""

    steps: int


@dataclass(frozen=True)
class Progress:
    """Position of the training loop: `step` counts from 0 over all phases up to `total`."""

    step: int
    total: int
    phase: int
    learning_rate: float


@dataclass
class PruningContext:
    """Everything a method may see and touch.

    Attributes:
        weights: prunable parameters by name, each of shape (out, in). One parameter under two names appears once.
        sparsity: target fraction of zeros among all of `weights` together, in [0, 1).
        steps: optimiser steps of the pruning budget.
        seed: for whatever the method draws at random.
        grams: returns, by weight name, the second moment ``E[x x^T]`` of shape (in, in) of that matrix's own
            inputs over calibration data, with the weights as they are now; None where no data can be run. Takes the
            number of utterances (by default as many as a careful estimate needs), and how many to pass over first; they
            are taken in a fixed order, again and again.
        responses: returns, by weight name, ``E[z x^T]`` of shape (out, in): x the inputs of that matrix as `grams` sees
            them, and z the response of the same matrix in the trained dense model to the same utterances; takes what
            `grams` takes. None where there is no dense model.
        learning_rate: of each step of the budget, from 0 on; None where it is constant.
        dense_steps: optimiser steps of the training that made the dense model; None where that is not known.
        snapshot: returns the dense run's weights, by name, at one of `REWIND_POINTS`; None where none were kept.
        restore: overwrites every parameter of the model (prunable or not) named in the mapping.
    """

    weights: Mapping[str, torch.nn.Parameter]
    sparsity: float
    steps: int
    seed: int = 0
    grams: Callable[..., dict[str, Tensor]] | None = None
    responses: Callable[..., dict[str, Tensor]] | None = None
    learning_rate: Callable[[int], float] | None = None
    dense_steps: int | None = None
    snapshot: Callable[[float], dict[str, Tensor]] | None = None
    restore: Callable[[Mapping[str, Tensor]], None] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise PruningError(f"sparsity must be in [0, 1), got {self.sparsity}")
        if self.sparsity > 0 and not self.weights:
            raise PruningError(f"nothing is prunable, so sparsity {self.sparsity} cannot be reached: loosen `prunable`")

    @property
    def total(self) -> int:
        """Number of prunable weights."""
        return sum(w.numel() for w in self.weights.values())

    @property
    def zeros(self) -> int:
        """Exact number of weights to set to zero."""
        return round(self.sparsity * self.total)

    def relative_rate(self, step: int) -> float:
        """Learning rate of a step of the budget, over the mean of all its steps."""
        return 1.0 if self.learning_rate is None else self.learning_rate(step) / self._mean_rate

    @cached_property
    def _mean_rate(self) -> float:
        assert self.learning_rate is not None
        return sum(map(self.learning_rate, range(self.steps))) / self.steps


class PruningMethod(ABC):
    """Base of all methods: override what is your own.

    Class attributes:
        Params: hyperparameters with defaults, bounds and search ranges.
        summary: one line for `cspbench methods`.
        source: paper and identifier.
        prunes: False for a control, which refuses any sparsity above 0.
    """

    Params: ClassVar[type[Hyperparameters]] = Hyperparameters
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    prunes: ClassVar[bool] = True

    def __init__(self, params: Hyperparameters, context: PruningContext) -> None:
        self.params = params
        self.context = context
        self._state: dict[str, str] = {}

    @classmethod
    def rewinds_weights(cls, params: Hyperparameters) -> bool:
        """Return whether these hyperparameters need `PruningContext.snapshot`."""
        return False

    def register_state(self, **attributes: str) -> None:
        """Keep attributes of this method in every checkpoint.

        Args:
            attributes: the prefix in the checkpoint, and the name of the attribute: ``register_state(z="_z")`` saves
                ``self._z``, a mapping of weight names (or names of its own) to tensors, as ``z.<name>``. The mapping
                may be replaced by another with the same names and shapes while the method runs.
        """
        self._state |= attributes

    def phases(self) -> list[Phase]:
        """Training phases in order; their steps add up to what the method really costs."""
        return [Phase(self.context.steps)]

    def start(self) -> None:  # noqa: B027 - an optional hook
        """Called once before training, never after a resume."""

    def begin_phase(self, index: int) -> None:  # noqa: B027
        """Called as a phase starts, never after a resume in its middle."""

    def before_forward(self, progress: Progress) -> None:  # noqa: B027
        """Called before the forward pass."""

    def observes_gradients(self, progress: Progress) -> bool:
        """Return whether `observe_gradients` is to be called in this step; it costs a second backward pass.

        The second pass is needed where the training minimises an auxiliary loss beside the model's own.
        """
        return False

    def observe_gradients(self, progress: Progress, gradients: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Receive the gradients of the model's own loss.

        Args:
            progress: the step.
            gradients: by weight name, (out, in): mean over the batch, without auxiliary losses, neither clipped nor
                scaled. After an overflow in mixed precision they hold infinities and NaN. Not to be changed.
        """

    def after_backward(self, progress: Progress) -> None:  # noqa: B027
        """Called with the gradients of the whole loss in ``weight.grad``, before they are clipped; may change them."""

    def after_step(self, progress: Progress) -> None:  # noqa: B027
        """Called after the optimiser has moved the weights."""

    @abstractmethod
    def finish(self) -> None:
        """Leave exactly `context.zeros` zeros chosen by the method; calling it again changes nothing."""

    @abstractmethod
    def masks(self) -> dict[str, Tensor]:
        """Current masks by weight name: bool, True where a weight is kept, shape (out, in)."""

    def state_dict(self) -> dict[str, Tensor]:
        """Copy of the registered state: tensors that, loaded into a fresh instance, continue the run bit for bit."""
        packed = [pack(kind, getattr(self, attribute)) for kind, attribute in self._state.items()]
        return {key: tensor for tensors in packed for key, tensor in tensors.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state_dict`; raises PruningError where a tensor is absent or misshapen."""
        for kind, attribute in self._state.items():
            unpack(kind, state, getattr(self, attribute))
