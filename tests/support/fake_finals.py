"""Final trials of a comparison made up, with the word errors behind them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cspbench.comparison.report import Evaluation, evaluate_finals

WORDS = 5
FIELD = {"csp": 0.05, "magnitude": 0.12, "movement": 0.15, "lottery": 0.11, "rigl": 0.13}
"""WERs of methods."""
QUICK = {"resamples": 200}


class Finals:
    """Rows of final trials, and the hypotheses that `compare` asks for.

    Args:
        speakers: test speakers of a corpus, in each fold.
        utterances: of a speaker.
    """

    def __init__(self, speakers: int = 5, utterances: int = 8, folds: Sequence[int | None] = (None,)) -> None:
        self.speakers, self.utterances, self.folds = speakers, utterances, folds
        self.rows: list[dict] = []
        self.heard: dict[str, pd.DataFrame] = {}

    def add(
        self,
        method: str,
        edits: Sequence[int],
        sparsity: float = 0.9,
        seed: int = 1,
        fold: int | None = None,
        corpus: str = "an4",
        *,
        dense_seed: int | None = None,
        budget: float = 1.0,
        **changes: object,
    ) -> str:
        """Add a trial with these word errors, from the dense model of its own seed; returns its id."""
        model = seed if dense_seed is None else dense_seed
        trial = f"{corpus}-{fold}-{method}-{sparsity}-{seed}"
        trial += f"-d{dense_seed}" * (dense_seed is not None) + f"-b{budget:g}" * (budget != 1)
        place = "" if fold is None else f"f{fold}"
        speakers = [f"{corpus}{place}s{i // self.utterances}" for i in range(len(edits))]
        self.heard[trial] = pd.DataFrame(
            {
                "id": [f"{corpus}{place}u{i:03d}" for i in range(len(edits))],
                "speaker": speakers,
                "reference": "one two three four five",
                "edits": edits,
                "words": WORDS,
            }
        )
        row = {
            **{"corpus": corpus, "method": method, "sparsity_requested": sparsity, "seed": seed, "fold": fold},
            **{"division": "closed", "budget": budget, "dense_seed": model, "selection": "chosen"},
            **{"dense_id": f"{corpus}{place}d{model}", "trial_id": trial, "state": "complete"},
            **{
                "dev_wer": 0.1,
                "dev_loss": 0.5,
                "test_cer": 0.04,
                "test_loss": 0.6,
                **{"substitutions": sum(edits), "deletions": 0, "insertions": 0},
                "test_wer": sum(edits) / (WORDS * len(edits)),
                "dense_wer": 0.02,
            },
            **{
                "steps": 100,
                "train_seconds": 30.0,
                "learning_rate": 1e-3,
                "params": json.dumps({"a": 1}),
                "tuning_trials": 3,
            },
        }
        self.rows.append(row | changes)
        return trial

    def fill(
        self,
        rates: Mapping[str, float],
        sparsities: Sequence[float] = (0.5, 0.9),
        seeds: Sequence[int] = (1, 2, 3),
        corpus: str = "an4",
        **changes: object,
    ) -> Finals:
        """Add a grid of trials: errors come at a method's rate, times 1 at 50 % and 2 at 90 % sparsity."""
        for fold in self.folds:
            rng = np.random.default_rng([7, 0 if fold is None else fold, len(corpus)])
            hard = rng.gamma(4, 0.25, self.speakers * self.utterances)
            for method, rate in rates.items():
                for sparsity in sparsities:
                    for seed in seeds:
                        chance = np.clip(hard * rate * (2 if sparsity >= 0.9 else 1), 0, 0.9)
                        self.add(method, rng.binomial(WORDS, chance).tolist(), sparsity, seed, fold, corpus, **changes)
        return self

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)

    def hypotheses(self, trial_id: str) -> pd.DataFrame:
        return self.heard[trial_id]


def compared(finals: Finals, **changes: object) -> Evaluation:
    """Evaluate them with few draws."""
    return evaluate_finals(finals.frame, finals.hypotheses, **QUICK | changes)


def row(table: pd.DataFrame, **keys: object) -> pd.Series:
    """The one row of a table with these values."""
    found = table
    for key, value in keys.items():
        found = found[found[key] == value]
    assert len(found) == 1, found
    return found.iloc[0]
