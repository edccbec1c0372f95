"""Comparison files: their content, and the messages on what is wrong with them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cspbench.comparison.load import load_comparison_config, with_entry
from cspbench.config import load_config, parse_override
from cspbench.errors import ConfigError

SWEEPS = Path(__file__).resolve().parents[2] / "sweeps"

GOOD = """\
name: demo
corpora:
  - corpus: {name: an4, path: somewhere}
  - corpus: {name: fsdd, path: elsewhere}
    folds: {of: 6, use: [0, 1, 2]}
sparsity: [0.9, 0.975, 0.5]
seeds: [1, 2, 3]
tuning: {trials: 3, at: [0.9, 0.975], corpora: [fsdd], folds: [3], seed: 0}
methods:
  - {name: csp, tune: {damping: [0.01, 0.03], end: {low: 0.4, high: 0.8}}}
  - {name: magnitude, tune: true, params: {interval: 7}}
  - movement
  - {name: csp, label: csp_plain, params: {ensemble: identity}}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "compare.yaml"
    path.write_text(text)
    return path


def message(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_comparison_config(write(folder, text), map(parse_override, overrides))
    assert caught.value.exit_code == 2
    return [line.strip() for line in str(caught.value).splitlines()]


def test_a_good_file_says_what_it_says(tmp_path: Path) -> None:
    config = load_comparison_config(write(tmp_path, GOOD))
    assert [entry.key for entry in config.corpora] == ["an4", "fsdd"]
    assert [entry.key for entry in config.methods] == ["csp", "magnitude", "movement", "csp_plain"]
    assert [entry.tuned for entry in config.methods] == [True, True, False, False]
    assert config.sparsity == (0.9, 0.975, 0.5)  # the order is kept
    assert [entry.key for entry in config.tuned_corpora()] == ["fsdd"]
    assert config.proposed == "csp"


def test_all_problems_come_in_one_pass_with_line_path_and_suggestion(tmp_path: Path) -> None:
    text = """\
name: a b
corpora:
  - corpus: {name: an5, path: x}
  - {corpus: {name: fsdd, path: y}, dense: {epoch: 3}}
sparsity: [0.9, 0.9]
seeds: [1, 0]
tuning: {trials: 9, at: [0.9], corpora: [fsd], seed: 0}
methods:
  - magnitud
  - {name: magnitude, tune: {scop: [1]}}
  - {name: csp, tune: {end: [0.5, 7]}, params: {end: 0.5}}
  - {name: csp, tune: {damping: [0.01, 0.03]}}
  - {name: movement, params: {variant: hrad}}
  - {name: lottery, tun: true}
  - {name: lottery, tune: {}}
proposed: cps
tunin: 3
"""
    lines = message(tmp_path, text)
    expected = [
        "line 1: name: 'a b' cannot name a folder",
        "line 3: corpora.0.corpus.name: unknown corpus 'an5'; did you mean 'an4'?",
        "line 4: corpora.1.dense.epoch: unknown key; did you mean 'epochs'?",
        "line 5: sparsity: the same value is listed twice: 0.9, 0.9",
        "line 7: tuning.seed: 0 is among the final seeds: those must be fresh",
        "line 9: methods.0.name: unknown pruning method 'magnitud'; did you mean 'magnitude'?",
        "line 10: methods.1.tune.scop: 'magnitude' has no such hyperparameter",
        "line 11: methods.2.tune.end: fixed in params and tuned: it can only be one of both",
        "line 11: methods.2.tune.end.1: should be less than or equal to 1, got 7",
        "line 12: methods.3: 'csp' is there already: give each a label of its own",
        "line 12: methods.3.tune: 3 settings at most, the default included; tuning.trials asks for 9",
        "line 13: methods.4.params.variant: 'hrad' is not allowed; did you mean 'hard'?",
        "line 14: methods.5.tun: unknown key; did you mean 'tune'?",
        "line 15: methods.6.tune: an empty mapping leaves nothing to tune",
        "line 17: tunin: unknown key; did you mean 'tuning'?",
    ]
    for line, start in zip(lines[1:], expected, strict=True):
        assert line.startswith(start), line
    assert lines[0].endswith(f"compare.yaml: {len(expected)} problems")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("seeds=[1, 2, 0]", "tuning.seed: 0 is among the final seeds: those must be fresh"),
        ("seeds=[1, 1, 2]", "seeds: the same value is listed twice: 1, 1, 2"),
        ("tuning=null", "tuning: must be given: csp, magnitude are to be tuned"),
        ("tuning.corpora=[fsd]", "tuning.corpora.0: no corpus is labelled 'fsd'; did you mean 'fsdd'?"),
        ("tuning.folds=null", "tuning.folds: must be given: the folds of 'fsdd' to tune on"),
        ("tuning.folds=[6]", "tuning.folds.0: of 6 folds of 'fsdd' the last is number 5"),
        ("tuning.folds=[0]", "tuning.folds.0: its dev speakers are fold 1, on which 'fsdd' is reported: leave one out"),
        ("tuning.corpora=[an4]", "tuning.folds: no corpus that settings are tuned on has folds"),
        ("tuning.at=[0.9, 1]", "tuning.at.1: should be less than 1, got 1"),
        ("corpora.1.folds.use=[6]", "corpora.1.folds: of 6 folds the last is number 5, not 6"),
        ("corpora.1.folds.use=[0, 1, 2, 5]", "corpora.1.folds.use: 3 seeds cannot visit 4 folds one by one"),
        ("corpora.1.corpus.fold={index: 0, of: 6}", "corpora.1.corpus.fold: the folds of this corpus say which"),
        ("corpora.0.label=fsdd", "corpora.1: 'fsdd' is there already"),
        ("corpora=[]", "corpora: an empty list leaves nothing"),
        ("proposed=cps", "proposed: no method is labelled 'cps'; did you mean 'csp'? (labels: csp, magnitude, mov"),
        ("methods.3.label=csp", "methods.3: 'csp' is there already: give each a label of its own"),
        ("methods.3.params.ensemble=[identity]", "methods.3.params.ensemble: "),  # values only: lists belong to tune
        ("methods.0.tune.damping=[0.5, 3]", "methods.0.tune.damping.1: should be less than or equal to 1, got 3"),
        ("methods.0.tune.end.high=0.1", "methods.0.tune.end: low must be less than high"),
        ("methods.0.tune={end: [0.5]}", "methods.0.tune: 'csp' declares no ranges: name what to tune"),
        ("methods.0.tune={end: [0.4, 0.6]}", "methods.0.tune: 3 settings at most"),
        ("budgets=[1, 4, 1]", "budgets.2: this part of budget 1 is there already"),
        ("budgets=[0.3]", "budgets.0: 0.3 times the 12 epochs of 'an4' is no whole number"),
        (
            "budgets=[{times: 4, methods: [cps]}]",
            "budgets.0.methods.0: no method is labelled 'cps'; did you mean 'csp'?",
        ),
        ("budgets=[{times: 4, corpora: [an5]}]", "budgets.0.corpora.0: no corpus is labelled 'an5'; did you mean"),
        ("tuning.budgets=[0.3]", "tuning.budgets.0: 0.3 times the 12 epochs"),
        ("tuning.every={ende: [0.5, 0.6]}", "tuning.every.ende: no tuned method has such a hyperparameter"),
        ("tuning.every={begin: [0.5]}", "tuning.every.begin: should be less than or equal to 0.3, got 0.5"),
        ("corpora.0.dense.seed=1", "corpora.0.dense.seed: dense_seeds of the file says which; remove one of the two"),
        (
            "methods.3.training={epochs: 3}",
            "methods.3.training: changes the pruning run, which the closed division fixes",
        ),
        (
            "methods.3={name: csp, label: own, division: open, training: {epoch: 3}}",
            "methods.3.training.epoch: unknown key; did you",
        ),
        ("methods.3.label=control", "methods.3: 'control' is the row of the control: choose another label"),
    ],
)
def test_overrides_are_judged_like_the_file(tmp_path: Path, change: str, expected: str) -> None:
    trials = ["tuning.trials=4"] if expected.endswith("at most") else []
    trials += ["dense_seeds=[0, 1]"] if "dense_seeds" in expected else []
    lines = message(tmp_path, GOOD, change, *trials)
    assert lines[0].endswith("1 problem"), lines
    assert f": {expected}" in lines[1], lines


def test_the_comparison_people_run_is_valid_and_shares_the_dense_recogniser_of_the_sweep() -> None:
    config = load_comparison_config(SWEEPS / "compare.yaml")
    assert config.name == "compare"
    sweep = load_config(SWEEPS / "an4.yaml")
    an4 = next(entry for entry in config.corpora if entry.key == "an4")
    for part in ("corpus", "features", "model", "dense", "prunable"):
        assert getattr(an4, part) == getattr(sweep, part), part
    assert config.all_budgets() == [1, 4, 12]
    assert config.control
    assert config.dense_seeds is not None
    assert len(config.dense_seeds) >= 3
    rows = {"csp", "magnitude", "magnitude_refit", "fisher_magnitude", "movement", "lottery", "obs", "greg"}
    assert rows <= {entry.key for entry in config.methods if entry.tuned}
    assert rows <= set(config.budgets[0].methods or ())
    assert rows <= set(config.budgets[1].methods or ())


def test_the_ablation_shares_the_dense_recogniser_of_the_sweep_and_switches_parts_of_one_method() -> None:
    config = load_comparison_config(SWEEPS / "ablation.yaml")
    sweep = load_config(SWEEPS / "an4.yaml")
    (own,) = config.corpora
    for part in ("corpus", "features", "model", "prunable"):
        assert getattr(own, part) == getattr(sweep, part), part
    assert own.dense.training == sweep.dense.training
    assert config.dense_seeds == (0, 1, 2)
    assert {entry.name for entry in config.methods} == {"csp"}
    assert {"csp", "fisher_magnitude", "magnitude_refit", "magnitude"} <= {entry.key for entry in config.methods}


def test_the_cross_validation_people_run_tests_every_speaker_once() -> None:
    config = load_comparison_config(SWEEPS / "compare_speakers.yaml")
    folds = config.corpora[0].folds
    assert folds is not None
    assert sorted(folds.use) == list(range(folds.of))
    assert len(config.seeds) == folds.of


def test_a_method_enters_under_the_rules_for_all(tmp_path: Path) -> None:
    config = load_comparison_config(
        write(tmp_path, GOOD), [parse_override("budgets=[1, {times: 4, methods: [csp, magnitude]}]")]
    )
    entered = with_entry(config, "lottery")
    assert entered.methods[-1].key == "lottery"
    assert entered.methods[-1].tuned
    assert entered.budgets[1].methods == ("csp", "magnitude", "lottery")
    assert entered.budgets[0].methods is None
    untuned = load_comparison_config(write(tmp_path, GOOD), [parse_override("methods=[csp]")])
    assert not with_entry(untuned.model_copy(update={"tuning": None}), "lottery").methods[-1].tuned


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("csp_plain", "--enter csp_plain: it takes part already; --only csp_plain runs it alone"),
        ("lotery", "--enter lotery: no such method; did you mean 'lottery'?"),
    ],
)
def test_what_cannot_enter_is_refused(tmp_path: Path, name: str, expected: str) -> None:
    config = load_comparison_config(write(tmp_path, GOOD))
    with pytest.raises(ConfigError, match=re.escape(expected)):
        with_entry(config, name)
