"""The reference level: what it does to levels, and that it can be streamed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.corpora.frames import ReferenceLevel
from cspbench.spec import FeatureSpec

SPEC = FeatureSpec(level_fall=0.01, level_above=7.0)


def utterance(seed: int = 0, frames: int = 200) -> np.ndarray:
    """Background, speech of random level, background."""
    rng = np.random.default_rng(seed)
    level = np.where((np.arange(frames) > 50) & (np.arange(frames) < 150), rng.uniform(14, 19, frames), 9.0)
    return (level[:, None] + rng.normal(scale=0.5, size=(frames, 8))).astype(np.float32)


def test_by_hand() -> None:
    levels = np.array([9.0, 8.0, 18.0, 10.0, 10.0, 18.5])
    tracker = ReferenceLevel(FeatureSpec(level_fall=0.5, level_above=7.0))
    found = tracker.relate(np.repeat(levels[:, None], 2, axis=1).astype(np.float32))
    # Background + 7, at least; then the loudest, falling by 0.5 a frame.
    references = [16.0, 15.5, 18.0, 17.5, 17.0, 18.5]
    np.testing.assert_allclose(found[:, 0], levels - references, atol=1e-6)
    assert (tracker.reference, tracker.background) == (18.5, 8.0)


def test_in_mid_speech_the_first_pause_sets_the_level() -> None:
    """Speech at 18, a pause at 10, speech again: following the background, the pause is as low as it should be."""
    levels = np.array([18.0, 18.0, 10.0, 18.0])
    frames = np.repeat(levels[:, None], 2, axis=1).astype(np.float32)
    held, following = (
        ReferenceLevel(FeatureSpec(level_fall=0.5, level_follows_background=on)).relate(frames)[:, 0]
        for on in (False, True)
    )
    np.testing.assert_allclose(held, levels - [25.0, 25.0, 24.5, 24.0])
    np.testing.assert_allclose(following, levels - [25.0, 25.0, 17.5, 18.0])


@pytest.mark.parametrize("shift", [-6.0, -4.6, 3.0])
def test_a_change_of_level_changes_nothing(shift: float) -> None:
    plain, moved = (ReferenceLevel(SPEC).relate(utterance() + np.float32(s)) for s in (0.0, shift))
    np.testing.assert_allclose(plain, moved, atol=1e-5)


@given(st.lists(st.integers(0, 30), max_size=12), st.integers(0, 5), st.booleans())
def test_chunks_of_any_length_give_the_same(cuts: list[int], seed: int, follow: bool) -> None:
    frames = utterance(seed)
    spec = FeatureSpec(level_fall=0.01, level_above=7.0, level_follows_background=follow)
    tracker, places = ReferenceLevel(spec), np.minimum(np.cumsum([0, *cuts]), len(frames)).tolist()
    parts = [tracker.relate(frames[a:b]) for a, b in zip(places, [*places[1:], len(frames)], strict=True)]
    np.testing.assert_allclose(np.concatenate(parts), ReferenceLevel(spec).relate(frames), atol=1e-5)


def test_without_it_features_are_absolute() -> None:
    frames = utterance()
    assert ReferenceLevel(FeatureSpec(level_fall=None)).relate(frames) is frames
