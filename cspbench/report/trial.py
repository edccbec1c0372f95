"""Trials read back one by one, by id or as the best ones of a study."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cspbench.errors import ConfigError, did_you_mean
from cspbench.report.results import load_results, where
from cspbench.report.table import CELL, CONTROL, select_on_dev
from cspbench.result import TrialResult
from cspbench.spec import TrialSpec
from cspbench.store import Store, read_json
from cspbench.trials.records import read_result, read_rows


@dataclass(frozen=True)
class Trial:
    """A trial on disk; everything is read when it is asked for.

    Attributes:
        id: of its spec.
        store: where it lies.
    """

    id: str
    store: Store

    @property
    def spec(self) -> TrialSpec:
        """Everything the outcome depends on."""
        return TrialSpec.model_validate(read_json(self.store.trial(self.id).spec))

    @property
    def result(self) -> TrialResult:
        """The outcome; raises ResultsError while there is none."""
        return read_result(self.store.trial(self.id))

    @property
    def curve(self) -> pd.DataFrame:
        """The training curve: the columns of `load_curves` from ``step`` on."""
        return pd.DataFrame(read_rows(self.store.trial(self.id).curve))

    @property
    def hypotheses(self) -> pd.DataFrame:
        """References and hypotheses of the test utterances: the columns of `load_hypotheses` from ``id`` on."""
        path = self.store.trial(self.id).hypotheses
        return pd.DataFrame(read_rows(path, "id", "reference", "hypothesis", "edits", "words"))

    @property
    def layers(self) -> pd.DataFrame:
        """Sparsity of each weight matrix: ``layer``, ``sparsity``."""
        zeros = self.result.layer_sparsity
        return pd.DataFrame({"layer": list(zeros), "sparsity": list(zeros.values())})


def trial(id: str, root: Store | Path | str = "runs") -> Trial:
    """Read a trial back.

    Args:
        id: of the trial, or the first digits of it.
        root: folder of all results.

    Returns:
        The trial, with `spec`, `result`, and as frames `curve`, `hypotheses` and `layers`.

    Raises:
        ConfigError: no such trial, or several that start so.

    Example:
        >>> import cspbench
        >>> cspbench.trial("0ea1").layers.nsmallest(1, "sparsity")["layer"].item()
        'joint_output.weight'
    """
    store = Store(root)
    return Trial(store.find_trial(id).path.name, store)


def find_trials(reference: str, root: Store | Path | str = "runs", condition: str | None = None) -> list[Trial]:
    """Find a trial by its id, or the best setting of a study.

    Args:
        reference: the id of a trial, or the first digits of it; or ``STUDY``, ``STUDY/METHOD``, ``STUDY@SPARSITY`` or
            ``STUDY/METHOD@SPARSITY`` for what did best on dev there, controls excepted unless they are named.
        root: folder of all results.
        condition: only trials of the study for which this holds, see `where`.

    Returns:
        The trial of that id, or the trials of the setting, one a seed; at least one.

    Raises:
        ConfigError: no such trial, method or sparsity, or several trials that start so.
        ResultsError: no such study.
    """
    store = Store(root)
    place, _, sparsity = reference.partition("@")
    study, _, method = place.partition("/")
    if place == reference and study not in store.studies() and not method:
        return [trial(reference, store)]
    frame = _named(load_results(study, store), method, sparsity)
    if condition is not None:
        frame = where(frame, condition)
    chosen = select_on_dev(frame)
    if chosen.empty:
        raise ConfigError(f"'{reference}': no trial has finished{' for which the condition holds' * bool(condition)}")
    cells = chosen.groupby(CELL, sort=False)["dev_wer"].mean().reset_index()
    best = cells.sort_values(["dev_wer", "sparsity_requested"], ascending=[True, False], kind="stable").iloc[0]
    ids = chosen.merge(best[CELL].to_frame().T.infer_objects(), on=CELL).sort_values("seed")["trial_id"]
    return [Trial(id, store) for id in ids]


def _named(frame: pd.DataFrame, method: str, sparsity: str) -> pd.DataFrame:
    """Trials of a method and a sparsity, where they are given; without a method, of all but the control."""
    if method and method not in set(frame["method"]):
        known = sorted(set(frame["method"]))
        raise ConfigError(
            f"the study has no method '{method}'{did_you_mean(method, known)} (it has {', '.join(known)})"
        )
    frame = frame[frame["method"] == method if method else frame["method"] != CONTROL]
    if not sparsity:
        return frame
    known = sorted(set(frame["sparsity_requested"]))
    try:
        wanted = float(sparsity)
    except ValueError:
        raise ConfigError(f"'{sparsity}' is no sparsity: write a fraction, such as 0.9") from None
    if wanted not in known:
        raise ConfigError(f"there is no trial at sparsity {wanted:g}; there are {', '.join(f'{x:g}' for x in known)}")
    return frame[frame["sparsity_requested"] == wanted]
