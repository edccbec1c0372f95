"""The training loop: the same for dense training and for every pruning method."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cspbench.asr.speech_model import SpeechModel
from cspbench.corpora.augment import augment
from cspbench.corpora.batches import Batch, collate, epoch_order
from cspbench.corpora.features import FeatureSet
from cspbench.errors import CspbenchError
from cspbench.machine import stop
from cspbench.machine.lock import working
from cspbench.pruning.matrices import GradientViews
from cspbench.pruning.method import Phase, Progress, PruningMethod
from cspbench.spec import AugmentSpec, TrainSpec
from cspbench.training.checkpoint import load_checkpoint, save_checkpoint
from cspbench.training.events import Event, Listener, StoppedEarly, silent
from cspbench.training.steps import StepLog

CHECKPOINT_SECONDS = 30.0


@dataclass(frozen=True)
class TrainingData:
    """Training features by speed, and their targets."""

    by_speed: Mapping[float, FeatureSet]
    targets: Sequence[Sequence[int]]

    def steps_per_epoch(self, batch_size: int) -> int:
        """Batches of one epoch."""
        return math.ceil(len(self.targets) / batch_size)

    def batches(self, spec: TrainSpec, seed: int, epoch: int) -> list[Callable[[], Batch]]:
        """The batches of one epoch, each made when called."""
        speeds = spec.augment.speeds
        speed = speeds[int(np.random.default_rng([seed, epoch, 1]).integers(len(speeds)))]
        features = self.by_speed[speed]
        order = epoch_order(features.lengths(), spec.batch_size, seed, epoch)

        def changed(index: int) -> np.ndarray:
            return augment(*features.of(index), spec.augment, np.random.default_rng([seed, epoch, 2, index]))

        change = changed if epoch >= spec.augment.start_epoch else None
        return [partial(collate, features, self.targets, rows, change) for rows in order]


@dataclass
class TrainingRun:
    """A training run: a model, its data, and everything else the outcome depends on.

    Attributes:
        model: on its device already.
        data: training features and targets.
        spec: optimiser, schedule, augmentation.
        seed: of batch order, augmentation and dropout.
        phases: stretches of training, each under its own learning-rate cycle.
        method: pruning method, or None for dense training.
        teacher: recogniser that `spec.distillation` takes as an example, in evaluation mode; None without any.
        checkpoint: file to resume from and to write to; None keeps nothing.
        evaluate: called at epoch ends, returns metrics (e.g. dev WER) for the curve.
        on_step: called with the number of steps done before each step and at the end (snapshots).
        steps: file for loss, learning rate, gradient norm, utterances a second and sparsity of single steps; None keeps
            nothing.
        listener: called with an event after every step.
        stage: name of the run in these events.
    """

    model: SpeechModel
    data: TrainingData
    spec: TrainSpec
    seed: int
    phases: list[Phase]
    method: PruningMethod | None = None
    teacher: SpeechModel | None = None
    checkpoint: Path | None = None
    evaluate: Callable[[], dict[str, float]] | None = None
    on_step: Callable[[int], None] | None = None
    steps: Path | None = None
    listener: Listener = silent
    stage: str = "train"
    curve: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.total = sum(phase.steps for phase in self.phases)
        self.device = self.model.device
        check_precision(self.device, self.spec.precision)
        self._losses: list[Tensor] = []
        self._norms: list[Tensor] = []
        self._kept: dict[int, tuple[float, Tensor | int]] = {}
        self._since = (0, 0.0)

    @cached_property
    def _gradients(self) -> GradientViews:
        assert self.method is not None
        return GradientViews(dict(self.model.named_parameters()), self.method.context.weights)

    def run(self) -> None:
        """Train to the end, going on from the checkpoint if there is one."""
        with flushed_denormals(), working() as step_aside:
            self._run(step_aside)

    def _run(self, step_aside: Callable[[], None]) -> None:
        self._optimizer, self._scaler = self._fresh_optimizer()
        self._step_log = StepLog(self.steps, self.total)
        step = self._resume()
        if step is None:
            step = 0
            self._call(None if self.method is None else self.method.start)
        per_epoch = self.data.steps_per_epoch(self.spec.batch_size)
        epoch_batches: tuple[int, list[Callable[[], Batch]]] = (-1, [])
        last_save = time.monotonic()
        while step < self.total:
            step_aside()  # pauses during latency measurements; excluded from `seconds`
            began = time.perf_counter()
            epoch, index = divmod(step, per_epoch)
            if epoch != epoch_batches[0]:
                epoch_batches = (epoch, self.data.batches(self.spec, self.seed, epoch))
            if self.on_step is not None:
                self.on_step(step)
            batch = epoch_batches[1][index]()
            progress = self.advance(step, batch)
            step += 1
            seconds = time.perf_counter() - began
            self.seconds += seconds
            self._observe(step, len(batch.indices), seconds)
            try:
                self._after(step, per_epoch, progress)
            except StoppedEarly:
                self._save(step)
                raise
            if stop.requested() or time.monotonic() - last_save > CHECKPOINT_SECONDS:
                self._save(step)
                last_save = time.monotonic()
            stop.check()
        if self.on_step is not None:
            self.on_step(step)
        self._call(None if self.method is None else self.method.finish)
        if not self.total and not self.curve:  # without training the outcome is all there is to record
            self.curve.append({"step": 0, "epoch": 0.0, **self._sparsity(), **self._evaluation()})
        self._save(step)

    def advance(self, step: int, batch: Batch) -> Progress:
        """Take the optimiser step that follows `step` others, on a batch; phases begin as they come."""
        progress = self.progress_at(step)
        self._begin_phase(progress)
        self._train_step(batch, progress, step // self.data.steps_per_epoch(self.spec.batch_size))
        return progress

    def _call(self, hook: Callable[[], None] | None) -> None:
        """Call what a method does before and after its training; that is part of what the training costs."""
        began = time.monotonic()
        if hook is not None:
            hook()
        self.seconds += time.monotonic() - began

    def _phase_of(self, step: int) -> tuple[int, int]:
        """Index of the phase a step belongs to, and the step within it."""
        for index, phase in enumerate(self.phases):
            if step < phase.steps:
                return index, step
            step -= phase.steps
        raise AssertionError("step beyond the last phase")

    def progress_at(self, step: int) -> Progress:
        """Return the place of a step in the run, as the method is told it."""
        index, within = self._phase_of(step)
        rate = one_cycle(within, self.phases[index].steps, self.spec.learning_rate, self.spec.warmup)
        return Progress(step=step, total=self.total, phase=index, learning_rate=rate)

    def _begin_phase(self, progress: Progress) -> None:
        if self._phase_of(progress.step)[1] == 0:
            self._optimizer, self._scaler = self._fresh_optimizer()
            if self.method is not None:
                self.method.begin_phase(progress.phase)

    def _fresh_optimizer(self) -> tuple[torch.optim.Optimizer, torch.amp.GradScaler]:
        decayed = [p for p in self.model.parameters() if p.dim() >= 2]
        plain = [p for p in self.model.parameters() if p.dim() < 2]
        groups = [{"params": decayed, "weight_decay": self.spec.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        # One pass over each tensor instead of one an operation; on CUDA torch chooses well by itself.
        fused = True if self.device.type == "cpu" else None
        optimizer = torch.optim.AdamW(groups, lr=self.spec.learning_rate, betas=(0.9, 0.99), fused=fused)
        scaling = self.spec.precision == "fp16" and self.device.type == "cuda"
        return optimizer, torch.amp.GradScaler(self.device.type, enabled=scaling)

    def _train_step(self, batch: Batch, progress: Progress, epoch: int) -> None:
        # Dropout and augmentation of a step depend on (seed, step) alone: a resumed run repeats them exactly.
        torch.manual_seed(self.seed * 1_000_003 + progress.step)
        self.model.train()
        if self.method is not None:
            self.method.before_forward(progress)
        for group in self._optimizer.param_groups:
            group["lr"] = progress.learning_rate
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._backward(batch.to(self.device), epoch, progress)
        self._scaler.unscale_(self._optimizer)
        if self.method is not None:
            self._gradients.take()
            self.method.after_backward(progress)
            self._gradients.give_back()
        # After the method has masked gradients: those of dropped weights would use up most of the norm.
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self.method is not None:
            self.method.after_step(progress)
        self._losses.append(loss)
        self._norms.append(norm.detach())

    def _backward(self, batch: Batch, epoch: int, progress: Progress) -> Tensor:
        """Accumulate gradients; a method that asks for them sees those of the recogniser's own loss first."""
        own, auxiliary = self._losses_of(batch, epoch)
        if self.method is not None and self.method.observes_gradients(progress):
            self._scaler.scale(own).backward(retain_graph=auxiliary is not None)
            scale = self._scaler.get_scale()
            weights = self.method.context.weights
            self._gradients.take()
            gradients = {name: w.grad / scale for name, w in weights.items() if w.grad is not None}
            self.method.observe_gradients(progress, gradients)
            self._gradients.give_back()
            if auxiliary is not None:
                self._scaler.scale(auxiliary).backward()
        else:
            self._scaler.scale(own if auxiliary is None else own + auxiliary).backward()
        return (own if auxiliary is None else own + auxiliary).detach()

    def _losses_of(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor | None]:
        """The recogniser's own loss of a batch, and the weighted sum of the auxiliary losses if there are any."""
        model, spec = self.model, self.spec
        features = model.normalise(batch.features)
        if epoch >= spec.augment.start_epoch:
            features = spec_augment(features, batch.frames, model.mels, spec.augment)
        batch = replace(batch, features=features)
        auxiliary = []
        with autocast(self.device, spec.precision):
            outputs = model.outputs(batch)
            loss = model.loss(outputs, batch).mean()
            if self.teacher is not None:
                auxiliary.append(spec.distillation * model.distillation(outputs, self.teacher, batch))
        if spec.ctc_weight and (ctc := model.auxiliary_loss(outputs, batch)) is not None:
            auxiliary.append(spec.ctc_weight * ctc)
        return loss, sum(auxiliary[1:], auxiliary[0]) if auxiliary else None

    def _after(self, step: int, per_epoch: int, progress: Progress) -> None:
        ended = step % per_epoch == 0 or step == self.total
        epoch = math.ceil(step / per_epoch)
        if ended and (epoch % self.spec.evaluate_every == 0 or step == self.total):
            losses = torch.stack(self._losses)
            loss = float(losses.mean())
            self._log_steps(step, losses.tolist())
            self._losses.clear()
            self._norms.clear()
            self._kept.clear()
            if not math.isfinite(loss):
                raise FloatingPointError(f"{self.stage}: the loss became {loss} by step {step}; lower learning_rate")
            metrics = {"loss": loss, "learning_rate": progress.learning_rate, **self._sparsity(), **self._evaluation()}
            self.curve.append({"step": step, "epoch": step / per_epoch, **metrics})
        recent = self.curve[-1] if self.curve else {}
        shown = {k: v for k, v in recent.items() if k in ("loss", "dev_wer", "sparsity")}
        evaluation = recent if recent.get("step") == step else {}
        self.listener(Event(self.stage, step, self.total, metrics=shown, evaluation=evaluation))

    def _log_steps(self, last: int, losses: list[float]) -> None:
        """Log the steps up to `last`, of which these are the losses; the rest of steps before a resume is gone."""
        norms = torch.stack(self._norms).tolist() if self._norms else []
        first, unknown = last - len(losses) + 1, len(losses) - len(norms)
        rows = []
        for index, loss in enumerate(losses):
            step = first + index
            if self._step_log.keeps(step):
                row = {"step": step, "loss": loss, "learning_rate": self.progress_at(step - 1).learning_rate}
                norm = norms[index - unknown] if index >= unknown else math.nan
                rows.append(row | ({"gradient_norm": norm} if math.isfinite(norm) else {}) | self._observed(step))
        self._step_log.write(first, rows)

    def _observe(self, step: int, utterances: int, seconds: float) -> None:
        """Note the speed since the last step that is logged, and the zeros after it, which are read at epoch ends."""
        utterances, seconds = utterances + self._since[0], seconds + self._since[1]
        if self._step_log.keeps(step):
            self._kept[step] = (utterances / seconds, self._zeros())
            utterances, seconds = 0, 0.0
        self._since = (utterances, seconds)

    def _observed(self, step: int) -> dict[str, float]:
        if step not in self._kept:
            return {}
        rate, zeros = self._kept[step]
        return {"utterances_per_second": rate, **self._sparsity(zeros)}

    def _evaluation(self) -> dict[str, float]:
        return {} if self.evaluate is None else self.evaluate()

    def _zeros(self) -> Tensor | int:
        """Number of zeros among the prunable weights, on their device."""
        return 0 if self.method is None else sum((w == 0).sum() for w in self.method.context.weights.values())

    def _sparsity(self, zeros: Tensor | int | None = None) -> dict[str, float]:
        """Return the fraction of zeros, counted now unless their number is given; nothing where nothing is pruned."""
        if self.method is None:
            return {}
        total = sum(w.numel() for w in self.method.context.weights.values())
        return {"sparsity": int(self._zeros() if zeros is None else zeros) / max(1, total)}

    def _save(self, step: int) -> None:
        if self.checkpoint is None:
            return
        state: dict[str, Any] = {
            "step": step,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "method": {} if self.method is None else dict(self.method.state_dict()),
            "losses": [float(x) for x in self._losses],
            "curve": self.curve,
            "seconds": self.seconds,
        }
        save_checkpoint(self.checkpoint, state)

    def _resume(self) -> int | None:
        """Steps done by the checkpoint, None where there is none."""
        if self.checkpoint is None or not self.checkpoint.is_file():
            return None
        state = load_checkpoint(self.checkpoint, self.device)
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        if self.method is not None:
            self.method.load_state_dict(state["method"])
        self._losses = [torch.tensor(x, device=self.device) for x in state["losses"]]
        self.curve[:] = state["curve"]
        self.seconds = state["seconds"]
        return int(state["step"])


def one_cycle(step: int, total: int, peak: float, warmup: float) -> float:
    """Learning rate that rises linearly for `warmup` of the steps and falls to zero along a cosine.

    After Smith & Topin 2018 (arXiv:1708.07120). `step` counts from 0 to total - 1; the rate is never zero.
    """
    position = (step + 1) / (total + 1)
    if position < warmup:
        return peak * position / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (position - warmup) / (1 - warmup)))


def check_precision(device: torch.device, precision: str) -> None:
    """Raise CspbenchError if a device cannot train in a precision: better at once than at the first step."""
    if device.type == "cuda" or precision == "fp32":
        return
    if precision == "fp16":
        raise CspbenchError("precision fp16 needs a CUDA device; on a CPU use fp32, or bf16 where the processor has it")
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise CspbenchError("precision bf16 needs CUDA or a CPU with AVX-512; this processor has neither: use fp32")


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take denormal numbers for zero: occupancies far from any likely alignment are such, and slow a CPU down.

    The switch belongs to the whole process, and so is turned back.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Mixed precision for a forward pass: nothing for fp32."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16 if precision == "bf16" else torch.float16)


def spec_augment(features: Tensor, frames: Tensor, mels: int, spec: AugmentSpec) -> Tensor:
    """Mask bands of frequency and stretches of time with the mean, which is zero (Park et al. 2019, arXiv:1904.08779).

    Args:
        features: normalised, (N, T, stack * mels).
        frames: valid steps, (N,); a time mask covers at most a fifth of them.
        mels: bins a frame.
        spec: number and largest width of the masks.
    """
    n, t, _ = features.shape
    x = features.unflatten(-1, (-1, mels))  # (N, T, stack, mels)
    for _ in range(spec.frequency_masks):
        limit = torch.full((n,), min(spec.frequency_width, mels), device=x.device)
        x = x.masked_fill(_random_band(mels, limit, torch.full_like(limit, mels))[:, None, None, :], 0.0)
    for _ in range(spec.time_masks):
        limit = (frames // 5).clamp(max=spec.time_width)
        x = x.masked_fill(_random_band(t, limit, frames)[:, :, None, None], 0.0)
    return x.flatten(-2)


def _random_band(size: int, limit: Tensor, extent: Tensor) -> Tensor:
    """Bool (N, size): one band a row, its width uniform in [0, limit], inside [0, extent)."""
    draw = torch.rand(2, len(limit), device=limit.device)
    width = (draw[0] * (limit + 1)).floor()
    start = (draw[1] * (extent - width + 1)).floor()
    position = torch.arange(size, device=limit.device)
    return (position >= start[:, None]) & (position < (start + width)[:, None])
