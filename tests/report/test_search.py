"""Hypervolume over trials, and importances of hyperparameters."""

from __future__ import annotations

import moocore
import numpy as np
import pandas as pd
import pytest

from cspbench.report.pareto import hypervolume
from cspbench.report.search import FEWEST, hypervolumes, importances, responses


def test_hypervolume_by_hand() -> None:
    assert hypervolume([[1, 3], [2, 1]], (4, 4)) == 1 * 1 + 2 * 3
    assert hypervolume([[1, 3], [1, 3], [3, 3.5], [5, 0], [np.nan, 0]], (4, 4)) == 3
    assert hypervolume(np.empty((0, 2)), (1, 1)) == 0


@pytest.mark.parametrize("seed", range(5))
def test_hypervolume_agrees_with_moocore(seed: int) -> None:
    points = np.random.default_rng(seed).integers(0, 12, (60, 2)) / 10
    assert hypervolume(points, (1.0, 1.0)) == pytest.approx(moocore.hypervolume(points, ref=[1.0, 1.0]))


def trials(count: int, sparsities: tuple[float, ...] = (0.5, 0.9)) -> pd.DataFrame:
    """Settings of one method, whose `strength` decides the dev WER at each sparsity, and whose `noise` does not."""
    rng = np.random.default_rng(0)
    strength, noise = rng.uniform(0, 1, count), rng.choice(["a", "b"], count)
    asked = [sparsities[i % len(sparsities)] for i in range(count)]
    return pd.DataFrame(
        {
            "corpus": "fsdd",
            "schema": 2,
            "method": "csp",
            "sparsity_requested": asked,
            "sparsity": asked,
            "setting": [str(i) for i in range(count)],
            "dev_wer": [0.2 + s + (v - 0.3) ** 2 for s, v in zip(asked, strength, strict=True)],
            "params.strength": strength,
            "params.noise": noise,
            "params.same": 1.0,
        }
    )


def test_what_decides_is_important_and_sparsity_does_not_hide_it(caplog: pytest.LogCaptureFixture) -> None:
    rows = importances(trials(80))
    assert caplog.messages == []
    found = {row["hyperparameter"]: row["importance"] for row in rows}
    assert list(found) == ["strength", "noise"]  # what never varied decides nothing
    assert found["strength"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    assert {row["settings"] for row in rows} == {80}
    assert importances(trials(FEWEST - 1)) == []


def test_sparsities_that_all_differ_are_a_hyperparameter_of_the_search() -> None:
    rows = importances(trials(60, tuple(np.linspace(0.3, 0.9, 60))))
    assert rows[0]["hyperparameter"] == "sparsity"


def test_settings_that_lack_a_value_have_importances_too() -> None:
    frame = trials(80)
    frame.loc[::2, "params.strength"] = np.nan  # such as a mapping that names a matrix in some settings alone
    assert {row["hyperparameter"] for row in importances(frame)} == {"strength", "noise"}


def test_responses_are_those_to_numbers_that_were_varied() -> None:
    frame = trials(12)
    frame.loc[0, "params.strength"] = np.nan
    again = frame.assign(dev_wer=frame["dev_wer"] + 0.2)  # of a second seed
    (found,) = responses(pd.concat([frame, again], ignore_index=True))
    assert (found["method"], found["name"]) == ("csp", "strength")
    assert len(found["points"]) == 11
    row = frame.iloc[3]
    expected = [row["params.strength"], row["dev_wer"] + 0.1, row["sparsity_requested"]]
    assert pytest.approx(expected) in found["points"]


def test_the_dominated_part_never_shrinks_and_a_control_takes_no_part() -> None:
    frame = pd.concat([trials(12), trials(1).assign(method="control", dev_wer=9.0)], ignore_index=True)
    volumes = hypervolumes(frame)
    assert list(volumes) == ["csp"]
    assert volumes["csp"] == sorted(volumes["csp"])
    assert len(volumes["csp"]) == 12
    worst = frame["dev_wer"][:12].max()
    first = frame.iloc[0]
    assert volumes["csp"][0] == pytest.approx((1 - first["dev_wer"] / worst) * first["sparsity"])


def test_the_dominated_part_after_each_trial_is_that_of_all_trials_so_far() -> None:
    frame = trials(60, tuple(np.linspace(0.9, 0.3, 7)))
    points = np.stack([frame["dev_wer"] / frame["dev_wer"].max(), 1 - frame["sparsity"]], axis=1)
    expected = [hypervolume(points[: count + 1], (1.0, 1.0)) for count in range(60)]
    assert hypervolumes(frame)["csp"] == pytest.approx(expected)


def test_importances_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert importances(trials(FEWEST))
    assert capfd.readouterr() == ("", "")
