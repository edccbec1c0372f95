"""What no command shows: CPU quotas of control groups, and losses of padded batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from cspbench.asr.loss import joint_transducer_loss, transducer_loss
from cspbench.bench.inputs import Call, Workshop
from cspbench.machine.quota import cpu_quota

PERIOD = 100_000
FILLERS = (float("nan"), float("inf"), -float("inf"), 1e30, -1e38)


def quotas(workshop: Workshop) -> Iterator[Call]:
    """CPU quotas of nested control groups, of both versions of the interface."""
    for version in (1, 2):
        for _ in range(12):
            depth = workshop.random.randrange(4)
            limits = [workshop.random.choice([None, 0.5, 1.0, 1.5, 2.0, 7.25]) for _ in range(depth + 1)]
            least = min((limit for limit in limits if limit is not None), default=None)
            # A container sees the groups from its own one downwards, under a root that is not "/".
            root = workshop.random.choice(["/", "/docker/ab c"])
            proc = _control_groups(workshop.place(), version, limits, root)
            yield Call(f"v{version}, limits {limits}, seen from {root}", partial(_quota_is, proc, least))
    for name, files in {
        "nothing": {},
        "empty files": {"cgroup": "", "mountinfo": ""},
        "a group that is mounted nowhere": {"cgroup": "0::/a\n", "mountinfo": "30 23 0:26 / /x rw - tmpfs tmpfs rw\n"},
        "a group outside its namespace": {
            "cgroup": "0::/../b\n",
            "mountinfo": "30 23 0:26 / /nowhere rw - cgroup2 cgroup2 rw\n",
        },
    }.items():
        proc = workshop.place()
        for file, content in files.items():
            (proc / file).write_text(content)
        yield Call(name, partial(_quota_is, proc, None))
    for limit in ("", "max", "max 100000", "-1 100000", "100000", "100000 0", "no numbers"):
        proc = _control_groups(workshop.place(), 2, [None], "/")
        (proc / "mount" / "cpu.max").write_text(limit)
        yield Call(f"cpu.max holds {limit!r}", partial(_quota_is, proc, None))


def _control_groups(proc: Path, version: int, limits: list[float | None], root: str) -> Path:
    """Files of /proc/self for a process in the innermost of nested groups, each with a limit or none."""
    folder, group = proc / "mount", root.rstrip("/")
    kind = "cgroup2 cgroup2 rw" if version == 2 else "cgroup cgroup rw,cpu,cpuacct"
    seen, place = (str(path).replace(" ", r"\040") for path in (root, folder))
    (proc / "mountinfo").write_text(f"30 23 0:26 {seen} {place} rw,relatime - {kind}\n")
    for depth, limit in enumerate(limits):
        if depth:
            folder, group = folder / f"g{depth}", f"{group}/g{depth}"
        folder.mkdir()
        quota = None if limit is None else round(limit * PERIOD)
        if version == 2:
            (folder / "cpu.max").write_text(f"{'max' if quota is None else quota} {PERIOD}\n")
        else:
            (folder / "cpu.cfs_quota_us").write_text(f"{-1 if quota is None else quota}\n")
            (folder / "cpu.cfs_period_us").write_text(f"{PERIOD}\n")
    (proc / "cgroup").write_text(f"{'0:' if version == 2 else '3:cpu,cpuacct'}:{group or '/'}\n")
    return proc


def _quota_is(proc: Path, expected: float | None) -> str | None:
    found = cpu_quota(proc)
    return None if found == expected else f"a quota of {found}, not {expected}"


def losses(workshop: Workshop) -> Iterator[Call]:
    """Losses of padded batches, whatever the padding holds: those of each utterance alone."""
    for filler in FILLERS:
        for name, loss in (("logits", _of_logits), ("projections", _of_projections)):
            for _ in range(3):
                seed = workshop.random.getrandbits(32)
                yield Call(
                    f"{name} padded with {filler}, seed {seed}", partial(_padding_is_nothing, loss, filler, seed)
                )


Loss = Callable[[list[Tensor], Tensor, Tensor, Tensor], Tensor]
"""Losses (N,) of padded inputs, targets, frames and labels."""


def _padding_is_nothing(loss: Loss, filler: float, seed: int) -> str | None:
    """Loss and gradient are those of each utterance alone, and the gradient of padding is zero."""
    draw = torch.Generator().manual_seed(seed)
    n, t, u, v, j = 3, 7, 4, 6, 5
    frames, labels = (torch.randint(low, high + 1, (n,), generator=draw) for low, high in ((1, t), (0, u)))
    frames[0], labels[1] = t, u
    targets = torch.randint(1, v, (n, u), generator=draw)
    shapes = [(n, t, u + 1, v)] if loss is _of_logits else [(n, t, j), (n, u + 1, j)]
    whole = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]
    inside = _inside(loss, frames, labels, t, u)
    padded = [x.masked_fill(~mask, filler).requires_grad_() for x, mask in zip(whole, inside, strict=True)]
    together = loss(padded, targets, frames, labels)
    found = torch.autograd.grad(together.sum(), padded)
    if any(gradient.masked_select(~mask).ne(0).any() for gradient, mask in zip(found, inside, strict=True)):
        return "padding has a gradient"
    for i, (own_t, own_u) in enumerate(zip(frames.tolist(), labels.tolist(), strict=True)):
        cuts = _cuts(loss, i, own_t, own_u)
        own = [x[cut][None].clone().requires_grad_() for x, cut in zip(whole, cuts, strict=True)]
        alone = loss(own, targets[i : i + 1, :own_u], frames[i : i + 1], labels[i : i + 1])
        gradients = torch.autograd.grad(alone.sum(), own)
        if not torch.allclose(alone[0], together[i]):
            return f"utterance {i} loses {together[i]} in the batch and {alone[0]} alone"
        if not all(torch.allclose(x[cut], o[0]) for x, o, cut in zip(found, gradients, cuts, strict=True)):
            return f"utterance {i} has another gradient alone"
    return None


def _cuts(loss: Loss, i: int, t: int, u: int) -> list[tuple[int | slice, ...]]:
    """What of each input belongs to an utterance of t frames and u labels."""
    if loss is _of_logits:
        return [(i, slice(t), slice(u + 1))]
    return [(i, slice(t)), (i, slice(u + 1))]


def _inside(loss: Loss, frames: Tensor, labels: Tensor, t: int, u: int) -> list[Tensor]:
    """True where inputs of a loss are no padding, broadcast over their last dimension."""
    time, place = torch.arange(t) < frames[:, None], torch.arange(u + 1) <= labels[:, None]
    if loss is _of_logits:
        return [(time[:, :, None] & place[:, None])[..., None]]
    return [time[..., None], place[..., None]]


def _of_logits(inputs: list[Tensor], targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    return transducer_loss(inputs[0], targets, frames, labels, reduction="none")


def _of_projections(inputs: list[Tensor], targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    output = nn.Linear(5, 6, dtype=torch.float64)
    with torch.no_grad():
        output.weight.copy_(torch.linspace(-1, 1, 30).reshape(6, 5))
        output.bias.copy_(torch.linspace(0, 1, 6))
    encoded, predicted = inputs
    return joint_transducer_loss(
        encoded, predicted, output.weight, output.bias, targets, frames, labels, reduction="none"
    )
