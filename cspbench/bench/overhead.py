"""Time that a pruning method adds to a training step, its mask updates and sensing spread over the whole budget.

Every method trains a recogniser of its own; they are interleaved, a real training step each, at places spread over the
budget. In between, their hooks alone run for every step of the budget, with the gradients of the last real step: every
mask update and every sensing of the schedule happens and is timed, without the cost of all forward passes. Hence, for
each method,

    step = (training step without hooks) + (hooks, mean over the budget)

and the ratio is that over the step of a dense model which was timed beside it. Hooks alone find warmer caches than
hooks within a step; the difference, measured where both were timed, is added.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor

from cspbench.asr.recognisers import build_model
from cspbench.asr.speech_model import prunable_weights
from cspbench.bench import Benchmark, machine
from cspbench.bench.random_speech import SpeechShape, random_speech
from cspbench.bench.torch_prune import TorchPrune
from cspbench.errors import ConfigError
from cspbench.pruning import Phase, Progress, PruningContext, PruningMethod
from cspbench.pruning.registry import create, methods, pruning_names
from cspbench.spec import CorpusSpec, DenseSpec, ModelSpec, TrainSpec
from cspbench.store import Store
from cspbench.training.loop import TrainingRun, flushed_denormals
from cspbench.training.speech import Speech, prepare_speech
from cspbench.trials.calibration import input_grams

PEER = "torch_prune"
SPARSITY = 0.9
NEARBY = 8
"""Steps within which a real step is moved to one in which the method observes gradients, or to one in which not."""

NEIGHBOURS = 9
"""Hook calls before a real step to which those within it are compared."""


def now() -> float:
    """Seconds on one thread's processor, so that other work on the machine does not count; of the wall with several."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


QUICK: dict[str, Any] = {"preset": "tiny", "steps": 24, "rounds": 2, "shape": SpeechShape(16, 8, 16)}
"""Arguments of `run` that finish within seconds: to see that it works."""


def run(
    *,
    corpus: str | None = None,
    path: str | None = None,
    preset: str = "small",
    steps: int = 500,
    rounds: int = 16,
    batch_size: int = 8,
    threads: int = 1,
    names: Sequence[str] | None = None,
    shape: SpeechShape | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Benchmark:
    """Measure the cost of a training step under every pruning method.

    Args:
        corpus: a registered corpus whose speech is trained on; None takes random features of like shape.
        path: where its audio lies.
        preset: size of the recogniser.
        steps: pruning budget over which mask updates are spread.
        rounds: real training steps of each method.
        batch_size: utterances a step.
        threads: of torch.
        names: methods to measure; None takes all that prune.
        shape: of random speech.
        progress: called with status lines.

    Returns:
        Rows by method; ratios ``<method>/dense`` and ``torch_prune/dense``.

    Raises:
        ConfigError: a method or a corpus that is not registered, or a budget too short for the rounds.
    """
    if steps < rounds or rounds < 1:
        raise ConfigError(f"overhead: {rounds} rounds need a budget of as many steps at least, got {steps}")
    chosen = pruning_names() if names is None else [name for name in names if methods.get(name)]
    spec = DenseSpec(
        corpus=CorpusSpec(name=corpus or "spoken_commands", path=path),
        model=ModelSpec.model_validate({"preset": preset}),
        training=TrainSpec(batch_size=batch_size, learning_rate=1e-3, ctc_weight=0.5),
    )
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            speech = prepare_speech(spec, Store(Path(folder))) if corpus else random_speech(shape or SpeechShape())
            progress(f"{len(speech.features['train', 1.0])} training utterances")
            entrants = [_Entrant(name, spec, speech, steps) for name in ("dense", PEER, *chosen)]
            with flushed_denormals():
                _race(entrants, rounds, progress)
        rows = [entrant.row(entrants[0]) for entrant in entrants]
        ratios = {f"{row['method']}/dense": row["ratio"] for row in rows[1:]}
        return Benchmark(rows, ratios, _protocol(spec, speech, corpus, steps, rounds))
    finally:
        torch.set_num_threads(before)


def _race(entrants: Sequence[_Entrant], rounds: int, progress: Callable[[str], None]) -> None:
    for entrant in entrants:
        entrant.begin()
    for index in range(rounds):
        progress(f"round {index + 1} of {rounds}")
        for entrant in entrants:
            entrant.run_hooks(until=int((index + 0.5) / rounds * entrant.training.total))
            entrant.seek(observing=index % 2 == 0)
        # Neither first nor last is always the same one.
        for entrant in [*entrants[index % len(entrants) :], *entrants[: index % len(entrants)]]:
            entrant.train()
    for entrant in entrants:
        entrant.end()


class _Entrant:
    """A recogniser in training under one method, and the clock beside it."""

    def __init__(self, name: str, spec: DenseSpec, speech: Speech, steps: int) -> None:
        self.name = name
        torch.manual_seed(0)
        model = build_model(spec.model, spec.features, speech.tokenizer.size)
        weights = prunable_weights(model)
        start = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        context = PruningContext(
            weights=weights,
            sparsity=SPARSITY,
            steps=steps,
            grams=input_grams(model, speech, list(weights)),
            snapshot=lambda fraction: start,
            restore=lambda tensors: model.load_state_dict({**model.state_dict(), **tensors}),
        )
        self.multiple, self.clock = 1.0, None
        if name != "dense":
            method, self.multiple = (TorchPrune(model, context), 1.0) if name == PEER else _method(name, context)
            self.clock = _Clock(method)
        self.weights = context.weights
        phases = self.clock.phases() if self.clock else [Phase(steps)]
        self.training = TrainingRun(
            model, speech.training(), spec.training, seed=0, phases=phases, method=self.clock, listener=lambda _: None
        )
        self.batches = self.training.data.batches(spec.training, 0, 0)
        self.steps, self.done = steps, 0
        self.outside: list[float] = []  # of a real step, without hooks
        self.observed: list[bool] = []  # whether it made a second backward pass, for the method to observe gradients
        self.observations = 0  # steps of the budget that make one
        self.within: list[float] = []  # hooks of a real step over hooks alone
        self.alone: list[float] = []  # hooks, of every other step of the budget

    def begin(self) -> None:
        """Start, and take a first step to warm up."""
        if self.clock:
            self.clock.start()
        self.train(count=False)

    def end(self) -> None:
        """Run the hooks of what is left of the budget."""
        self.run_hooks(until=self.training.total)
        if self.clock:
            self.clock.finish()

    def train(self, *, count: bool = True) -> None:
        """Take a real training step."""
        hooks = self.clock.seconds if self.clock else 0.0
        batch = self.batches[len(self.outside) % len(self.batches)]()
        observed = self._observes(self.done)
        self.observations += observed
        began = now()
        self.training.advance(self.done, batch)
        elapsed = now() - began
        spent = (self.clock.seconds if self.clock else 0.0) - hooks
        if count:
            self.outside.append(elapsed - spent)
            self.observed.append(observed)
            self.within.append(spent - median(self.alone[-NEIGHBOURS:] or [spent]))
        self.done += 1

    def _observes(self, step: int) -> bool:
        return self.clock is not None and self.clock.observes_gradients(self.training.progress_at(step))

    def seek(self, observing: bool) -> None:
        """Go on, by a few steps at most, to one in which the method observes gradients, or to one in which not."""
        near = range(self.done, min(self.done + NEARBY, self.training.total))
        self.run_hooks(until=next((step for step in near if self._observes(step) == observing), self.done))

    def run_hooks(self, until: int) -> None:
        """Go on to step `until` by hooks alone; steps that begin a phase are real ones."""
        if self.done >= until:
            return
        gradients = {name: w.grad.clone() for name, w in self.weights.items() if w.grad is not None and self.clock}
        while self.done < until:
            progress = self.training.progress_at(self.done)
            if self.done and progress.phase != self.training.progress_at(self.done - 1).phase:
                self.train(count=False)
                continue
            if self.clock:
                for name, weight in self.weights.items():
                    weight.grad = gradients[name].clone() if name in gradients else None
                hooks = self.clock.seconds
                self.clock.before_forward(progress)
                if self._observes(self.done):
                    self.observations += 1
                    self.clock.observe_gradients(progress, gradients)
                self.clock.after_backward(progress)
                self.clock.after_step(progress)
                self.alone.append(self.clock.seconds - hooks)
            self.done += 1
        for weight in self.weights.values():
            weight.grad = None

    def _outside(self, dense: _Entrant) -> float:
        """Step without hooks over the dense step beside it; steps with a second backward pass count by their number."""
        times = list(zip(self.outside, dense.outside, self.observed, strict=True))
        second = [(own, other) for own, other, observed in times if observed]
        single = [(own, other) for own, other, observed in times if not observed] or second
        ratio = median(own / other for own, other in single)
        if not second:
            return ratio
        extra = median(own / other for own, other in second) - ratio
        return ratio + extra * self.observations / self.training.total

    def row(self, dense: _Entrant) -> dict[str, Any]:
        """The measurement, times in milliseconds."""
        outside = self._outside(dense)
        plain = median(dense.outside)
        hooks, once = 0.0, 0.0
        if self.clock:
            once = self.clock.once / self.training.total
            hooks = mean(self.alone or [0.0]) + max(0.0, median(self.within)) + once
        return {
            "method": self.name,
            "ratio": outside + hooks / plain,
            "step_ms": 1000 * (outside * plain + hooks),
            "outside_hooks_ms": 1000 * outside * plain,
            "hooks_ms": 1000 * hooks,
            "of_which_once_ms": 1000 * once,
            "slowest_hooks_ms": 1000 * max(self.alone, default=0.0),
            "steps": self.training.total,
            "steps_multiple": self.multiple,
            "sparsity": SPARSITY if self.clock else 0.0,
            "params": self.clock.parameters() if self.clock else {},
        }


def _method(name: str, context: PruningContext) -> tuple[PruningMethod, float]:
    """A method with its defaults, and its training steps as a multiple of the budget.

    One that does not train by default is measured while it fine-tunes, its pruning spread over the budget.
    """
    method = create(name, {}, context)
    multiple = sum(phase.steps for phase in method.phases()) / context.steps
    if multiple == 0 and "fine_tune" in type(method).Params.model_fields:
        method = create(name, {"fine_tune": True}, context)
    return method, multiple


class _Clock(PruningMethod):
    """Passes every call on and adds up how long it took: `seconds` in all, `once` outside the steps."""

    def __init__(self, inner: PruningMethod) -> None:
        super().__init__(inner.params, inner.context)
        self._inner = inner
        self.seconds = 0.0
        self.once = 0.0

    def _timed(self, hook: Callable[..., None], *args: Any) -> float:
        began = now()
        hook(*args)
        elapsed = now() - began
        self.seconds += elapsed
        return elapsed

    def parameters(self) -> dict[str, Any]:
        """Hyperparameters, for the record."""
        return self.params.model_dump(mode="json")

    def phases(self) -> list[Phase]:
        return self._inner.phases()

    def start(self) -> None:
        self.once += self._timed(self._inner.start)

    def begin_phase(self, index: int) -> None:
        self.once += self._timed(self._inner.begin_phase, index)

    def before_forward(self, progress: Progress) -> None:
        self._timed(self._inner.before_forward, progress)

    def observes_gradients(self, progress: Progress) -> bool:
        return self._inner.observes_gradients(progress)

    def observe_gradients(self, progress: Progress, gradients: Mapping[str, Tensor]) -> None:
        self._timed(self._inner.observe_gradients, progress, gradients)

    def after_backward(self, progress: Progress) -> None:
        self._timed(self._inner.after_backward, progress)

    def after_step(self, progress: Progress) -> None:
        self._timed(self._inner.after_step, progress)

    def finish(self) -> None:
        self.once += self._timed(self._inner.finish)

    def masks(self) -> dict[str, Tensor]:
        return self._inner.masks()

    def state_dict(self) -> dict[str, Tensor]:
        return self._inner.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._inner.load_state_dict(state)


def _protocol(spec: DenseSpec, speech: Speech, corpus: str | None, steps: int, rounds: int) -> dict[str, Any]:
    return {
        "speech": corpus or "random features and letters of realistic lengths, seeded",
        "utterances": len(speech.features["train", 1.0]),
        "model": spec.model.preset,
        "batch_size": spec.training.batch_size,
        "sparsity": SPARSITY,
        "steps": steps,
        "rounds": rounds,
        "ratio": "median over rounds of the step without hooks over the dense step beside it, steps with a second "
        "backward pass counted by their number, plus hooks: their mean "
        "over every step of the budget, start and finish included, over the median dense step",
        "interleaved": True,
        "clock": "processor time" if torch.get_num_threads() == 1 else "wall",
    } | machine()
