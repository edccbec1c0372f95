"""A training loop in miniature that speaks the pruning protocol, and a toy task for it.

The model is a stacked LSTM over odd-sized matrices with output layers; the task is to add up what it has heard so far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cspbench.pruning import Progress, PruningContext, PruningMethod
from cspbench.pruning.registry import create

RATE = 5e-3


class Toy(nn.Module):
    """Two LSTM layers, a layer of one output and one of one input (1xN, Nx1), and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 7, num_layers=2, batch_first=True)
        self.narrow = nn.Linear(7, 1)
        self.wide = nn.Linear(1, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(torch.tanh(self.narrow(self.lstm(x)[0])))


def toy(seed: int = 0, device: str = "cpu") -> Toy:
    torch.manual_seed(seed)
    return Toy().to(device)


def matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.ndim == 2}


def batch(step: int, device: str = "cpu") -> Tensor:
    return torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(step)).to(device)


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x) - x[..., :3].cumsum(1)).square().mean()


def toy_grams(model: nn.Module) -> Callable[[], dict[str, Tensor]]:
    """Second moments that depend on the weights and on the data taken, as real ones do, for every matrix."""

    def grams(utterances: int = 50, skip: int = 0) -> dict[str, Tensor]:
        found = {}
        for index, (name, w) in enumerate(matrices(model).items()):
            generator = torch.Generator().manual_seed(index + 100 * skip)
            x = torch.randn(utterances, w.shape[1], generator=generator).to(w.device)
            x = x + x.mean(1, keepdim=True) * (1 + w.detach().mean())
            found[name] = x.T @ x / len(x)
        return found

    return grams


def toy_responses(model: nn.Module) -> Callable[..., dict[str, Tensor]]:
    """Responses of a dense model, always the same one, to the inputs of `toy_grams`."""
    grams = toy_grams(model)

    def responses(utterances: int = 50, skip: int = 0) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(1)
        moments = grams(utterances, skip)
        return {
            name: torch.randn(w.shape, generator=generator).to(w.device) * 0.3 @ moments[name]
            for name, w in matrices(model).items()
        }

    return responses


def context_for(model: nn.Module, sparsity: float, steps: int = 40, seed: int = 0, **changes: Any) -> PruningContext:
    """A context with everything a method may ask for; the snapshots are seeded, and all weights differ from now."""
    parameters = dict(model.named_parameters())

    def snapshot(share: float) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(round(share * 100))
        return {k: torch.randn(p.shape, generator=generator).to(p.device) * 0.3 for k, p in parameters.items()}

    @torch.no_grad()
    def restore(values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            parameters[name].copy_(value)

    options: dict[str, Any] = {
        "weights": matrices(model),
        "grams": toy_grams(model),
        "responses": toy_responses(model),
        "snapshot": snapshot,
        "restore": restore,
    }
    return PruningContext(sparsity=sparsity, steps=steps, seed=seed, **(options | changes))


def build(name: str, params: Mapping[str, Any], context: PruningContext) -> PruningMethod:
    return create(name, params, context)


class Loop:
    """The training loop; `save` and `load` stand for a checkpoint."""

    def __init__(self, model: Toy, method: PruningMethod | None, steps: int) -> None:
        self.model, self.method = model, method
        self.phases = [steps] if method is None else [phase.steps for phase in method.phases()]
        self.device = str(next(model.parameters()).device)
        self.step = 0
        self.started = False
        self._fresh_optimizer()

    @property
    def total(self) -> int:
        return sum(self.phases)

    def run(self, until: int | None = None) -> None:
        """Train up to step `until`; to the end and through `finish` without it."""
        if not self.started and self.method:
            self.method.start()
        self.started = True
        while self.step < (self.total if until is None else until):
            self._train_step()
        if until is None and self.method:
            self.method.finish()

    def _fresh_optimizer(self) -> None:
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, weight_decay=1e-2)

    def _train_step(self) -> None:
        phase, within = 0, self.step
        while within >= self.phases[phase]:
            within -= self.phases[phase]
            phase += 1
        if within == 0:
            self._fresh_optimizer()
            if self.method:
                self.method.begin_phase(phase)
        progress = Progress(self.step, self.total, phase, RATE)
        x = batch(self.step, self.device)
        if self.method:
            self.method.before_forward(progress)
        self.optimizer.zero_grad(set_to_none=True)
        loss_of(self.model, x).backward()
        if self.method:
            if self.method.observes_gradients(progress):
                weights = self.method.context.weights
                self.method.observe_gradients(progress, {n: w.grad for n, w in weights.items() if w.grad is not None})
            self.method.after_backward(progress)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        if self.method:
            self.method.after_step(progress)
        self.step += 1

    def save(self) -> dict[str, Any]:
        clone = {k: v.clone() for k, v in self.model.state_dict().items()}
        state = torch.optim.Optimizer.state_dict(self.optimizer)
        copied = {k: {n: v.clone() for n, v in entry.items()} for k, entry in state["state"].items()}
        method = self.method.state_dict() if self.method else {}
        return {"step": self.step, "model": clone, "optimizer": state | {"state": copied}, "method": method}

    def load(self, state: Mapping[str, Any]) -> None:
        self.step, self.started = state["step"], True
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.method:
            self.method.load_state_dict(state["method"])


def zeros(model: nn.Module) -> int:
    return sum(int((w == 0).sum()) for w in matrices(model).values())
