"""Distillation over the lattice: against a node-by-node computation, and what must not matter does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cspbench.asr.distillation import Lattice, distillation_loss, divergence_of_logits

BLANK = 0
Loss = Callable[..., Tensor]


Problem = tuple[Tensor, Tensor, Tensor]


def some_lattice(generator: torch.Generator, units: int) -> Lattice:
    shapes = [(3, 4, 6), (3, 4, 6), (units, 6), (units,)]
    return Lattice(*(torch.randn(shape, generator=generator, dtype=torch.double).requires_grad_() for shape in shapes))


def problem(seed: int, units: int = 5) -> tuple[Lattice, Lattice, Problem]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(1, units, (3, 3), generator=generator)
    rest = (targets, torch.tensor([4, 2, 1]), torch.tensor([3, 1, 0]))
    return some_lattice(generator, units), some_lattice(generator, units), rest


def by_logits(student: Lattice, teacher: Lattice, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    """The way of a GPU."""
    sums = divergence_of_logits(student.logits(), teacher.logits(), targets, frames, labels)
    return (sums / (labels + 1)).mean()


def by_node(student: Tensor, teacher: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    """The definition, written as loops."""
    losses = []
    for n in range(len(student)):
        total = student.new_zeros(())
        for t in range(int(frames[n])):
            for u in range(int(labels[n]) + 1):
                ours, theirs = student[n, t, u].softmax(-1), teacher[n, t, u].softmax(-1)
                groups = [[BLANK]] + ([[int(targets[n, u])]] if u < labels[n] else [])
                groups.append([unit for unit in range(len(ours)) if [unit] not in groups])
                for group in filter(None, groups):
                    p, q = theirs[group].sum(), ours[group].sum()
                    total = total + p * (p / q).log()
        losses.append(total / (labels[n] + 1))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("loss", [distillation_loss, by_logits])
@pytest.mark.parametrize("units", [2, 3, 6])  # with two there is no other unit
def test_value_and_gradient_are_those_of_the_definition(loss: Loss, units: int) -> None:
    student, teacher, rest = problem(units, units)
    ours, expected = loss(student, teacher, *rest), by_node(student.logits(), teacher.logits(), *rest)
    torch.testing.assert_close(ours, expected)
    gradients = (torch.autograd.grad(2 * x, list(student)) for x in (ours, expected))
    for pair in zip(*gradients, strict=True):
        torch.testing.assert_close(*pair)


def test_long_utterances_are_taken_in_several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher, rest = problem(4)
    whole = distillation_loss(student, teacher, *rest)
    monkeypatch.setattr("cspbench.asr.loss.CHUNK", 5)
    chunked = distillation_loss(student, teacher, *rest)
    torch.testing.assert_close(chunked, whole)
    gradients = (torch.autograd.grad(x, list(student)) for x in (chunked, whole))
    for pair in zip(*gradients, strict=True):
        torch.testing.assert_close(*pair)


@pytest.mark.parametrize("loss", [distillation_loss, by_logits])
def test_a_student_like_its_teacher_has_nothing_to_learn(loss: Loss) -> None:
    student, _, rest = problem(0)
    like = Lattice(*(x.detach() for x in student))._replace(bias=student.bias.detach() + 3.0)  # unnormalised
    value = loss(student, like, *rest)
    assert value.item() == pytest.approx(0.0, abs=1e-12)
    assert max(x.abs().max() for x in torch.autograd.grad(value, list(student))) < 1e-12


def test_probabilities_within_the_collapsed_class_do_not_matter() -> None:
    student, teacher, (targets, *lengths) = problem(1)
    targets[:] = 1
    order = [0, 1, 4, 2, 3]
    swapped = teacher._replace(weight=teacher.weight[order], bias=teacher.bias[order])
    losses = [distillation_loss(student, x, targets, *lengths) for x in (teacher, swapped)]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("loss", [distillation_loss, by_logits])
def test_padding_may_hold_anything(loss: Loss) -> None:
    student, teacher, rest = problem(2)
    dirty = student._replace(encoded=student.encoded.detach().clone(), predicted=student.predicted.detach().clone())
    dirty.encoded[1, 2:], dirty.predicted[2, 1:] = float("nan"), float("nan")
    torch.testing.assert_close(loss(dirty, teacher, *rest), loss(student, teacher, *rest))


def test_gradients_of_padding_are_zero() -> None:
    student, teacher, rest = problem(2)
    gradient = torch.autograd.grad(distillation_loss(student, teacher, *rest), student.encoded)[0]
    assert gradient[0].abs().min() > 0
    assert not gradient[1, 2:].any()


def test_lattices_of_different_shapes_are_refused() -> None:
    student, teacher, rest = problem(3)
    with pytest.raises(ValueError, match="cannot be compared"):
        distillation_loss(student, teacher._replace(encoded=teacher.encoded[:, :-1]), *rest)
