"""How many zeros each matrix gets."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction


def uniform(sizes: Mapping[str, int], zeros: int) -> dict[str, int]:
    """Give every matrix the same sparsity, to within a weight; the counts add up to `zeros` exactly.

    Rounded as seats are by Sainte-Laguë. Unlike the largest remainder it never takes a zero back from a matrix as
    `zeros` grows, so that along a ramp dropped weights stay dropped.

    Args:
        sizes: number of weights by matrix name.
        zeros: zeros among all of them, in [0, sum of sizes].

    Returns:
        Zeros by matrix name, in the order of `sizes`; of equal claims the earlier matrix is served first.
    """
    total = sum(sizes.values())
    counts = {name: (2 * zeros * size + total) // (2 * total) for name, size in sizes.items() if size}
    while sum(counts.values()) < zeros:
        counts[min(counts, key=lambda name: Fraction(2 * counts[name] + 1, sizes[name]))] += 1
    while sum(counts.values()) > zeros:
        counts[max(reversed(counts), key=lambda name: Fraction(2 * counts[name] - 1, sizes[name]))] -= 1
    return {name: counts.get(name, 0) for name in sizes}
