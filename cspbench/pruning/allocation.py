"""Zeros of each matrix where the allocation, and not the scores, decides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from cspbench.pruning.selection import MatrixShape, SelectionParams, parse_pattern


def allocate(shapes: Mapping[str, MatrixShape], zeros: int, params: SelectionParams) -> dict[str, int]:
    """Zeros by matrix; they add up to `zeros` exactly, and no matrix's ever fall as `zeros` grows.

    ``uniform`` gives all matrices one density, ``erk`` (Erdős-Rényi-Kernel for matrices: Mocanu et al. 2018,
    arXiv:1707.04780; Evci et al. 2020, arXiv:1911.11134) one proportional to ``(in + out) / (in * out)``; both are
    multiplied by `params.multiplier`. No matrix is denser than 1, or than an N:M pattern allows as long as all of them
    keep to it: the excess goes to the others in proportion.

    Args:
        shapes: (out, in) by matrix name.
        zeros: zeros among all of them, in [0, number of weights].
        params: allocation, multipliers and pattern.
    """
    pattern = parse_pattern(params.pattern)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    unit = {name: sum(shape) if params.allocation == "erk" else sizes[name] for name, shape in shapes.items()}
    claims = {name: max(1, unit[name]) * Fraction(params.multiplier(name)) for name in shapes}
    inside = {name: pattern.capacity(shape) if pattern else sizes[name] for name, shape in shapes.items()}
    kept = sum(sizes.values()) - zeros
    within = apportion(claims, inside, min(kept, sum(inside.values())))
    beyond = apportion(claims, {name: sizes[name] - inside[name] for name in sizes}, kept - sum(within.values()))
    return {name: sizes[name] - within[name] - beyond[name] for name in shapes}


def apportion(claims: Mapping[str, Fraction], caps: Mapping[str, int], seats: int) -> dict[str, int]:
    """Distribute `seats` in proportion to `claims`, at most `caps` each.

    Rounded as Sainte-Laguë does it: seats go one by one to the largest ``claim / (2 * has + 1)`` below its cap, of
    equal ones to the first. Unlike the largest remainder it never takes a seat back as `seats` grows, so that along a
    ramp dropped weights stay dropped.

    Args:
        claims: above zero, by name.
        caps: at least zero, by the same names.
        seats: at most the sum of `caps`.
    """
    rate = _rate(claims, caps, seats)
    counts = {name: min(cap, math.floor(rate * claims[name] + Fraction(1, 2))) for name, cap in caps.items()}
    while sum(counts.values()) < seats:
        open_ = [name for name in counts if counts[name] < caps[name]]
        counts[min(open_, key=lambda name: (2 * counts[name] + 1) / claims[name])] += 1
    while sum(counts.values()) > seats:
        held = [name for name in reversed(counts) if counts[name]]
        counts[max(held, key=lambda name: (2 * counts[name] - 1) / claims[name])] -= 1
    return counts


def _rate(claims: Mapping[str, Fraction], caps: Mapping[str, int], seats: int) -> Fraction:
    """Seats per unit of claim at which the capped claims add up to `seats`, before rounding."""
    rate, claimed = Fraction(0), sum((claims[name] for name in caps), Fraction(0))
    for name in sorted(caps, key=lambda name: caps[name] / claims[name]):
        rate = seats / claimed
        if rate * claims[name] < caps[name]:
            break
        seats, claimed = seats - caps[name], claimed - claims[name]
        rate = caps[name] / claims[name]
    return rate
