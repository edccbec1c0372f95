from __future__ import annotations

import torch
from support.toy_training import Loop, build, context_for, matrices, toy

from cspbench.pruning import Progress, PruningContext


def zeros_by_step(steps: int, **params: object) -> list[int]:
    """Dropped weights after 0, 1, ... steps."""
    model = toy()
    method = build("acdc", params, context_for(model, 0.8, steps))
    loop = Loop(model, method, steps)
    found = []
    for done in range(steps + 1):
        loop.run(until=done)
        found.append(sum(int((~mask).sum()) for mask in method.masks().values()))
    return found


def test_compressed_and_decompressed_phases_alternate_and_the_last_is_compressed() -> None:
    found = zeros_by_step(100, warmup=0.1, cycles=3, end=0.7)
    sparse = [done for done, zeros in enumerate(found) if zeros]
    assert sparse == [*range(10, 20), *range(30, 40), *range(50, 60), *range(70, 101)]
    assert len({zeros for zeros in found if zeros}) == 1


def test_without_warm_up_it_begins_compressed() -> None:
    assert zeros_by_step(20, warmup=0.0, cycles=1, end=1.0)[0] > 0


def test_a_decompressed_weight_trains_on_from_zero_and_may_stay() -> None:
    weight = torch.nn.Parameter(torch.tensor([[1.0, 0.5, 3.0, 2.0]]))
    method = build("acdc", {"warmup": 0.1, "cycles": 1, "end": 0.5}, PruningContext({"w": weight}, 0.5, 10))
    method.start()

    def step(number: int, gradient: list[float]) -> list[float]:
        weight.grad = torch.tensor([gradient])
        method.after_backward(Progress(number, 10, 0, 0.1))
        with torch.no_grad():
            weight.sub_(weight.grad)
        method.after_step(Progress(number, 10, 0, 0.1))
        return [round(x, 4) for x in weight.tolist()[0]]

    assert step(0, [0.0] * 4) == [0.0, 0.0, 3.0, 2.0]
    assert step(1, [-5.0, 0.0, 1.0, 0.0]) == [0.0, 0.0, 2.0, 2.0], "compressed: gradients of dropped weights do not act"
    assert step(2, [0.0] * 4) == [0.0, 0.0, 2.0, 2.0]
    assert method.masks()["w"].all(), "decompressed after three of ten steps"
    assert bool((weight != 0).all())
    step(3, [-5.0, 0.0, 0.0, 0.0])
    assert step(4, [0.0] * 4) == [5.0, 0.0, 2.0, 0.0], "of two equal weights the first is kept"


def test_a_compressed_phase_chooses_its_mask_anew() -> None:
    model = toy()
    method = build("acdc", {"warmup": 0.0, "cycles": 4, "end": 0.8}, context_for(model, 0.3, 200))
    loop = Loop(model, method, 200)
    loop.run(until=10)
    first = {name: mask.clone() for name, mask in method.masks().items()}
    loop.run()
    assert any(not torch.equal(mask, first[name]) for name, mask in method.masks().items())
    assert all(torch.equal(w != 0, method.masks()[name]) for name, w in matrices(model).items())
