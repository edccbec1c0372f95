"""One trial read back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cspbench.report.results import load_curve, load_hypotheses, load_layers
from cspbench.result import TrialResult
from cspbench.spec import TrialSpec
from cspbench.store import Store, read_json
from cspbench.trials.records import read_result


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
        """The training curve; see `load_curve`."""
        return load_curve(self.id, self.store)

    @property
    def hypotheses(self) -> pd.DataFrame:
        """References and hypotheses of the test utterances; see `load_hypotheses`."""
        return load_hypotheses(self.id, self.store)

    @property
    def layers(self) -> pd.DataFrame:
        """Sparsity of each weight matrix; see `load_layers`."""
        return load_layers(self.id, self.store)


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
