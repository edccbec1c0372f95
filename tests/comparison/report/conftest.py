"""A comparison that several files look at."""

import pytest
from support.fake_finals import FIELD, Finals, compared


@pytest.fixture(scope="session")
def both():
    """Five methods on two corpora, one of them in folds, and three methods without training."""
    finals = Finals().fill(FIELD)
    finals.folds, finals.speakers = (0, 1, 2), 2
    finals.fill(FIELD, corpus="fsdd")
    post = {"csp_post": 0.2, "wanda": 0.4, "magnitude_post": 0.45}
    finals.fill(post, corpus="fsdd", steps=0, train_seconds=1.0, tuning_trials=0)
    finals.folds, finals.speakers = (None,), 5
    finals.fill(post, steps=0, train_seconds=1.0, tuning_trials=0)
    return finals


@pytest.fixture(scope="session")
def comparison(both):
    return compared(both)
