"""From scores to masks with an exact number of zeros."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from cspbench.errors import PruningError
from cspbench.pruning.allocation import allocate
from cspbench.pruning.selection import Allocation, Blocks, Groups, Pattern, SelectionParams, parse_pattern

Matrices = Mapping[str, Tensor]


@torch.no_grad()
def keep_largest(scores: Tensor, zeros: int) -> Tensor:
    """Mask that drops the `zeros` smallest scores.

    The count is exact. Comparing with a threshold alone is not: real weights tie (zeros of an earlier pruning,
    saturated scores), and whole groups would go or stay together. Of equal scores those that come first are kept.

    Args:
        scores: any shape, floating point.
        zeros: how many to drop, in [0, number of scores].

    Returns:
        Bool tensor of the shape of `scores`, True where the score is kept.

    Raises:
        PruningError: a score is NaN, or there are fewer than `zeros` scores.
    """
    flat = scores.reshape(-1)
    if not 0 <= zeros <= flat.numel():
        raise PruningError(f"cannot set {zeros} of {flat.numel()} weights to zero")
    if flat.isnan().any():
        raise PruningError("weights or scores are NaN: the training diverged; lower the learning rate")
    if zeros == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = _kth_smallest(flat, zeros)
    keep = flat > threshold
    tied = (flat == threshold).nonzero().squeeze(1)
    keep[tied[: flat.numel() - zeros - int(keep.count_nonzero())]] = True
    return keep.view(scores.shape)


def _kth_smallest(flat: Tensor, k: int) -> Tensor:
    # On 40 million weights NumPy's vectorised partition takes 0.12 s on a processor, torch's kthvalue 2.6 s; on CUDA
    # kthvalue runs in a single thread block, and a full radix sort is the quick way.
    if flat.is_cuda:
        return flat.sort().values[k - 1]
    exact = flat if flat.dtype in (torch.float32, torch.float64) else flat.float()
    return torch.from_numpy(np.partition(exact.numpy(), k - 1)[k - 1 : k])[0].to(flat.dtype)


@torch.no_grad()
def select(scores: Matrices, zeros: int, params: SelectionParams) -> dict[str, Tensor]:
    """Masks by matrix name that drop the smallest scores, `zeros` in all, whatever the allocation and the pattern.

    A score of minus infinity marks what is gone for good. With such marks, masks for more zeros drop all that masks
    for fewer did.

    Args:
        scores: by matrix name, each of shape (out, in).
        zeros: total number of weights to drop.
        params: which matrices are ranked together, and the pattern (see `_groups` and `_blocks`).

    Returns:
        Bool masks by name, True where a weight is kept. Ties break by index, over the matrices in their order.

    Raises:
        PruningError: a score is NaN, or there are fewer than `zeros` scores.
    """
    if params.allocation == "global":
        return _drop(scores, zeros, parse_pattern(params.pattern))
    counts = allocate({name: tuple(score.shape) for name, score in scores.items()}, zeros, params)
    return select_counts(scores, counts, params)


@torch.no_grad()
def select_counts(scores: Matrices, counts: Mapping[str, int], params: SelectionParams) -> dict[str, Tensor]:
    """Masks that drop the smallest scores of each matrix, ``counts[name]`` of them; see `select`."""
    pattern = parse_pattern(params.pattern)
    return {name: _drop({name: score}, counts[name], pattern)[name] for name, score in scores.items()}


def _drop(scores: Matrices, zeros: int, pattern: Pattern) -> dict[str, Tensor]:
    """Masks that drop `zeros` scores ranked together."""
    if not scores:
        return {}
    if isinstance(pattern, Blocks):
        return _blocks(scores, zeros, pattern)
    joined = torch.cat([score.reshape(-1) for score in scores.values()])
    kept = keep_largest(joined, zeros) if pattern is None else _groups(scores, joined, zeros, pattern)
    parts = kept.split([score.numel() for score in scores.values()])
    return {name: part.view(scores[name].shape) for name, part in zip(scores, parts, strict=True)}


def _groups(scores: Matrices, joined: Tensor, zeros: int, pattern: Groups) -> Tensor:
    """Flat mask: first go those that are not among the `keep` best of their group, and only then the others."""
    best = torch.cat([best_of_groups(score, pattern).reshape(-1) for score in scores.values()])
    extra = best.numel() - int(best.count_nonzero())
    if zeros <= extra:
        best[~best] = keep_largest(joined[~best], zeros)
        return best
    best[best.clone()] = keep_largest(joined[best], zeros - extra)
    return best


def best_of_groups(scores: Tensor, pattern: Groups) -> Tensor:
    """Mask of the `keep` largest scores of every group of inputs; of equal scores the first.

    Args:
        scores: shape (out, in); a row's last group may be shorter.
        pattern: size of the groups, and how many of each are kept.
    """
    if scores.isnan().any():
        raise PruningError("weights or scores are NaN: the training diverged; lower the learning rate")
    rest = -scores.shape[1] % pattern.of
    groups = pad(scores, (0, rest), value=-torch.inf).unflatten(1, (-1, pattern.of)).unbind(-1)
    places = [torch.zeros_like(group, dtype=torch.int8) for group in groups]  # how many of the group are better
    for first, second in combinations(range(pattern.of), 2):
        wins = groups[first] >= groups[second]
        places[second] += wins
        places[first] += ~wins
    return (torch.stack(places, -1) < pattern.keep).flatten(1)[:, : scores.shape[1]]


def _blocks(scores: Matrices, zeros: int, block: Blocks) -> dict[str, Tensor]:
    """Masks that drop blocks of the smallest mean score; the last is cut in part where the count requires it."""
    means = {name: _block_means(score, block) for name, score in scores.items()}
    sizes = {name: _block_sizes(score, block) for name, score in scores.items()}
    order = torch.cat([mean.reshape(-1) for mean in means.values()]).argsort(descending=True, stable=True)
    left = torch.cat([size.reshape(-1) for size in sizes.values()])[order].cumsum(0)
    total = sum(score.numel() for score in scores.values())
    if not 0 <= zeros <= total:
        raise PruningError(f"cannot set {zeros} of {total} weights to zero")
    whole = int((left <= total - zeros).sum())
    rest = total - zeros - (int(left[whole - 1]) if whole else 0)
    kept = torch.zeros_like(order, dtype=torch.bool)
    kept[order[:whole]] = True
    parts = kept.split([mean.numel() for mean in means.values()])
    masks = {
        name: _spread(part.view(means[name].shape), scores[name].shape, block)
        for name, part in zip(scores, parts, strict=True)
    }
    if rest:
        name, tile = _locate(int(order[whole]), means, block)
        masks[name][tile] = keep_largest(scores[name][tile], scores[name][tile].numel() - rest)
    return masks


def _block_means(scores: Tensor, block: Blocks) -> Tensor:
    """Mean score of each block, (block rows, block columns).

    A block that is gone in part ranks above those that are gone, and below all others.
    """
    if scores.isnan().any():
        raise PruningError("weights or scores are NaN: the training diverged; lower the learning rate")
    exact = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
    image, size = exact[None, None], (block.rows, block.columns)
    mean = avg_pool2d(image, size, ceil_mode=True)[0, 0]
    part = mean.isneginf() & ~max_pool2d(image, size, ceil_mode=True)[0, 0].isneginf()
    return mean.masked_fill_(part, torch.finfo(mean.dtype).min)


def _block_sizes(scores: Tensor, block: Blocks) -> Tensor:
    def extents(total: int, size: int) -> Tensor:
        begins = torch.arange(0, total, size, device=scores.device)
        return (total - begins).clamp_max(size)

    return torch.outer(extents(scores.shape[0], block.rows), extents(scores.shape[1], block.columns))


def whole_blocks(mask: Tensor, block: Blocks) -> Tensor:
    """Mask, shape (out, in), of the blocks that `mask` keeps entirely."""
    gone = max_pool2d((~mask).float()[None, None], (block.rows, block.columns), ceil_mode=True)[0, 0]
    return _spread(gone == 0, mask.shape, block)


def _spread(blocks: Tensor, shape: torch.Size, block: Blocks) -> Tensor:
    rows = blocks.repeat_interleave(block.rows, 0)[: shape[0]]
    return rows.repeat_interleave(block.columns, 1)[:, : shape[1]]


def _locate(index: int, means: Matrices, block: Blocks) -> tuple[str, tuple[slice, slice]]:
    """Matrix and place of the block that is number `index` of all matrices."""
    for name, mean in means.items():
        if index < mean.numel():
            row, column = divmod(index, mean.shape[1])
            top, left = row * block.rows, column * block.columns
            return name, (slice(top, top + block.rows), slice(left, left + block.columns))
        index -= mean.numel()
    raise AssertionError("a block beyond the last")


def count_zeros(masks: Mapping[str, Tensor]) -> int:
    """Number of dropped weights in all masks."""
    return sum(mask.numel() - int(mask.count_nonzero()) for mask in masks.values())


def highest_dropped(scores: Matrices, masks: Matrices, allocation: Allocation) -> dict[str, Tensor]:
    """Largest score the masks drop, by name, shape (); minus infinity where nothing is dropped.

    With allocation `global` it is the same for all matrices.
    """
    highest = {name: score.masked_fill(masks[name], -torch.inf).max() for name, score in scores.items()}
    if allocation != "global" or not highest:
        return highest
    overall = torch.stack(list(highest.values())).max()
    return {name: overall.clone() for name in highest}
