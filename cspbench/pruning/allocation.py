"""How many zeros each matrix gets."""

from __future__ import annotations

from collections.abc import Mapping


def uniform(sizes: Mapping[str, int], zeros: int) -> dict[str, int]:
    """Give every matrix the same sparsity; the counts add up to `zeros` exactly (largest remainder, ties by order).

    Args:
        sizes: number of weights by matrix name.
        zeros: zeros among all of them, in [0, sum of sizes].

    Returns:
        Zeros by matrix name, in the order of `sizes`.
    """
    total = sum(sizes.values())
    if not total:
        return dict.fromkeys(sizes, 0)
    counts = {name: zeros * size // total for name, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda name: -(zeros * sizes[name] % total))
    for name in by_remainder[: zeros - sum(counts.values())]:
        counts[name] += 1
    return counts
