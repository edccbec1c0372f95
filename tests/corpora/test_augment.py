"""Changes of edges are what they say, and leave the speech itself alone."""

from __future__ import annotations

import numpy as np
import pytest

from cspbench.corpora.augment import augment, speech_bounds
from cspbench.spec import AugmentSpec

BACKGROUND, SPEECH = 10.0, 10_000.0
FLUSH = np.zeros((5, 3), np.float32)


def recording(before: int = 20, speech: int = 30, after: int = 20) -> np.ndarray:
    """Background, speech whose frames can be told apart, background."""
    level = [BACKGROUND] * before + [SPEECH + i for i in range(speech)] + [BACKGROUND] * after
    return np.repeat(np.array(level, np.float32)[:, None], 3, axis=1)


def drawn(seed: int, **spec: object) -> np.ndarray:
    return augment(recording(), FLUSH, AugmentSpec.model_validate(spec), np.random.default_rng(seed))


def test_speech_is_found_between_backgrounds() -> None:
    assert speech_bounds(recording(20, 30, 10)) == (20, 50)
    assert speech_bounds(np.full((12, 3), 5.0, np.float32)) == (0, 12)


def test_without_changes_nothing_changes() -> None:
    found = drawn(0, edges=0)
    np.testing.assert_array_equal(found, np.concatenate([recording(), FLUSH]))


def test_changed_ends_keep_all_speech_and_end_in_flush() -> None:
    lengths, digital, background = set(), 0, 0
    for seed in range(200):
        found = drawn(seed, edges=1, silence_frames=8)
        speech = found[found[:, 0] >= SPEECH]
        np.testing.assert_array_equal(speech, recording()[20:50])
        np.testing.assert_array_equal(found[-5:], FLUSH)
        rest = found[:-5][found[:-5, 0] < SPEECH]
        assert set(np.unique(rest)) <= {0.0, BACKGROUND}
        digital += bool((rest == 0).any())
        background += bool((rest == BACKGROUND).any())
        lengths.add(len(found))
    assert min(lengths) >= 35
    assert max(lengths) <= 75 + 16
    assert len(lengths) > 20
    assert digital > 50
    assert background > 50


def test_each_end_is_changed_by_itself() -> None:
    changed = {0: 0, 1: 0}
    for seed in range(400):
        found = drawn(seed, edges=0.5, silence_frames=0)
        loud = np.flatnonzero(found[:, 0] >= SPEECH)
        changed[0] += int(loud[0]) != 20
        changed[1] += len(found) - 5 - int(loud[-1]) - 1 != 20
    assert all(150 < count < 220 for count in changed.values())  # half of them, less those cut by no frame


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_the_shortest_recordings_survive(frames: int) -> None:
    for seed in range(50):
        spec = AugmentSpec(edges=1, silence_frames=3)
        found = augment(np.ones((frames, 3), np.float32), FLUSH, spec, np.random.default_rng(seed))
        assert len(found) >= frames + len(FLUSH)
