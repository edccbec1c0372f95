"""Padded batches in an order that is a pure function of seed and epoch, so that a resumed run sees the same data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cspbench.corpora.features import FeatureSet, stacked_features

POOL = 8
"""Batches whose utterances are sorted by length together: less padding, still shuffled."""


@dataclass(frozen=True)
class Batch:
    """Padded utterances: features (N, T, C), frames (N,), targets (N, U), labels (N,), indices into the set."""

    features: Tensor
    frames: Tensor
    targets: Tensor
    labels: Tensor
    indices: list[int]

    def to(self, device: torch.device) -> Batch:
        """Copy to a device, to a GPU without waiting for it."""

        def copy(x: Tensor) -> Tensor:
            if device.type == "cuda":  # a copy from any other memory is waited for
                return x.pin_memory().to(device, non_blocking=True)
            return x.to(device)

        return Batch(
            features=copy(self.features),
            frames=copy(self.frames),
            targets=copy(self.targets),
            labels=copy(self.labels),
            indices=self.indices,
        )


def collate(
    features: FeatureSet,
    targets: Sequence[Sequence[int]],
    indices: Sequence[int],
    changed: Callable[[int], np.ndarray] | None = None,
) -> Batch:
    """Pad the chosen utterances to the longest of them.

    Args:
        features: of a split.
        targets: label ids of each utterance of the split.
        indices: of the utterances, in the order of the batch.
        changed: returns the mel energies (F, mels) of an utterance in place of the recorded ones: augmentation.
    """
    if changed is None:
        arrays = [features.inputs(i) for i in indices]
    else:
        arrays = [stacked_features(changed(i), features.spec) for i in indices]
    frames = torch.tensor([len(a) for a in arrays])
    padded = torch.zeros(len(arrays), int(frames.max()), arrays[0].shape[1])
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = torch.from_numpy(array)
    labels = torch.tensor([len(targets[i]) for i in indices])
    ids = torch.zeros(len(arrays), int(labels.max()), dtype=torch.long)
    for row, i in zip(ids, indices, strict=True):
        row[: len(targets[i])] = torch.tensor(targets[i], dtype=torch.long)
    return Batch(padded, frames, ids, labels, list(indices))


def epoch_order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of utterance indices for one epoch: shuffled, pooled by length, shuffled again.

    The number of batches is ``ceil(len(lengths) / batch_size)`` in every epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    batches: list[list[int]] = []
    pool = POOL * batch_size
    for start in range(0, len(order), pool):
        chunk = order[start : start + pool]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[i : i + batch_size].tolist() for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def evaluation_batches(features: FeatureSet, targets: Sequence[Sequence[int]], batch_size: int) -> Iterator[Batch]:
    """All utterances once, longest first, so that a batch holds little padding."""
    order = np.argsort(-features.lengths(), kind="stable").tolist()
    for start in range(0, len(order), batch_size):
        yield collate(features, targets, order[start : start + batch_size])
