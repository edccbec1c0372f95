"""What a sweep file may say, and how people are told what is wrong with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cspbench.config import Choice, Range, SweepConfig, load_config, parse_override
from cspbench.config.rules import method_axes
from cspbench.config.yamlfile import parse_value
from cspbench.errors import ConfigError

GOOD = """\
name: demo
corpus:
  name: fsdd
  path: somewhere
dense: {epochs: 3, learning_rate: 1e-3, seed: 4}
prune: {epochs: 2}
sparsity: [0.5, 0.9]
methods:
  - csp
  - name: magnitude
    params: {allocation: [uniform, global], end: 0.7}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(text)
    return path


def message(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(write(folder, text), map(parse_override, overrides))
    assert caught.value.exit_code == 2
    return [line.strip() for line in str(caught.value).splitlines()]


def test_a_good_file_says_what_it_says(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert (config.dense.epochs, config.dense.learning_rate, config.dense.seed) == (3, 1e-3, 4)
    assert config.dense.training.epochs == 3
    assert config.sparsity.values == (0.5, 0.9)
    assert [entry.name for entry in config.methods] == ["csp", "magnitude"]
    assert method_axes(config.methods[1]) == {"allocation": Choice(("uniform", "global")), "end": Choice((0.7,))}
    assert (config.sampler.name, config.seeds, config.objectives) == ("grid", (0,), ("wer",))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[("1e-3", 1e-3), ("1E5", 1e5), (".5", 0.5), ("1.", 1.0), ("-2", -2), ("010", 10), ("1:30", "1:30")],
        *[("no", "no"), ("off", "off"), ("yes", "yes"), ("true", True), ("null", None), ("", None), ("~", None)],
        *[(".inf", ".inf"), (".nan", ".nan"), ("2024-01-01", "2024-01-01"), ("[1e-2, no]", [0.01, "no"])],
    ],
)
def test_yaml_reads_as_people_expect(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)


def test_all_problems_come_in_one_pass_with_line_path_and_suggestion(tmp_path: Path) -> None:
    text = """\
name: a b
corpus: {name: fsd}
model: {preset: tinny}
dense: {epochs: 0, learning_rte: 1e-3}
prune: {learning_rate: .inf, augment: {speds: [1]}}
sparsity: [0.5, 1.5]
methods:
  - magnitud
  - {name: magnitude, params: {alocation: uniform}}
  - {nam: csp}
  - magnitude
objectives: [wer, latncy]
trals: 3
"""
    lines = message(tmp_path, text)
    expected = [
        "line 1: name: 'a b' cannot name a folder",
        "line 2: corpus.name: unknown corpus 'fsd'; did you mean 'fsdd'? (known: an4, ",
        "line 3: model.preset: 'tinny' is not allowed; did you mean 'tiny'? (allowed: tiny, small, paper)",
        "line 4: dense.epochs: should be greater than or equal to 1, got 0",
        "line 4: dense.learning_rte: unknown key; did you mean 'learning_rate'? (known: epochs, ",
        "line 5: prune.learning_rate: must be a number, got '.inf'",
        "line 5: prune.augment.speds: unknown key; did you mean 'speeds'? (known: speeds, ",
        "line 6: sparsity.1: should be less than 1, got 1.5",
        "line 8: methods.0.name: unknown pruning method 'magnitud'; did you mean 'magnitude'? (known: ",
        "line 9: methods.1.params.alocation: 'magnitude' has no such hyperparameter; did you mean 'allocation'? (",
        "line 10: methods.2.name: must be given",
        "line 10: methods.2.nam: unknown key; did you mean 'name'? (known: name, params, search, sparsity)",
        "line 11: methods.3: 'magnitude' is listed twice",
        "line 12: objectives.1: 'latncy' is not allowed; did you mean 'latency'? (allowed: wer, latency, size)",
        "line 13: trals: unknown key; did you mean 'trials'? (known: corpus, features, ",
    ]
    assert lines[0].endswith(f"sweep.yaml: {len(expected)} problems")
    for line, start in zip(lines[1:], expected, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("methods=[control]", "methods.0: 'control' prunes nothing and runs beside every sweep: remove it"),
        ("sampler=tpe", "trials: must be given: the sampler 'tpe' never ends by itself"),
        ("sparsity={low: 0.1, high: 0.5}", "sparsity: a grid needs a list"),
        ("sparsity={low: 0.6, high: 0.5}", "sparsity: must be a list of sparsities, or a range"),
        ("sparsity=[]", "sparsity: an empty list leaves nothing to test"),
        ("sparsity=[0.5, 0.5]", "sparsity: the same sparsity is listed twice"),
        ("methods.0.search=true", "methods.0.search: a grid cannot search ranges"),
        ("methods.1.params.end={low: 0.4, high: 0.6}", "methods.1.params.end: a grid needs a list"),
        ("methods.1.params.end=[0.5, 7]", "methods.1.params.end.1: should be less than or equal to 1, got 7"),
        ("methods.1.params.end=[]", "methods.1.params.end: an empty list leaves nothing"),
        (
            "methods.1.params.allocation=[unifrm]",
            "methods.1.params.allocation: 'unifrm' is not allowed; did you mean 'uniform'?",
        ),
        ("methods.7=csp", "methods.7: no such item: the list has 2"),
        ("methods=[]", "methods: an empty list leaves nothing to choose from"),
        ("methods=csp", "methods: must be a list, such as [a, b], got 'csp'"),
        ("sparsity=abc", "sparsity: must be a list of sparsities, or a range {low, high}, got 'abc'"),
        (
            "prunable=[nothing*]",
            "prunable.0: 'nothing*' matches no weight matrix of this model (there are: enc",
        ),
        ("dense.learning_rate=inf", "dense.learning_rate: must be a finite number, got 'inf'"),
        ("dense.learning_rate=1e999", "dense.learning_rate: must be a finite number, got inf"),
        ("dense.augment.speeds=[0]", "dense.augment.speeds.0: should be greater than or equal to 0.5, got 0"),
        ("dense.epochs=true", "dense.epochs: must be a number, got true"),
        ("dense.epochs=1.5", "dense.epochs: must be a whole number, got 1.5"),
        ("seeds=[99999999999]", "seeds: must be a number of at most 2147483647"),
        ("features.hop_ms=1000", "features.hop_ms: should be less than or equal to 100, got 1000"),
        ("features={hop_ms: 100, stack: 3}", "features: a model step of hop_ms * stack = 300 ms skips whole sounds"),
        ('corpus.path="a\\0b"', "corpus.path: must not hold a null character"),
        ("methods.0.params={allocation: erk, density: {nose: 2}}", "methods.0.params.density.nose: no prunable matrix"),
        ("corpus.options.sped=1", "corpus.options.sped: unknown key"),
        ("corpus={name: spoken_commands, path: here}", "corpus.path: 'spoken_commands' makes its own audio"),
        ("corpus=an4", "corpus.path: must be given: the folder the audio of 'an4' lies in"),
        ("seeds=[1, 1]", "seeds: the same value is listed twice"),
        ("device=gpu", "device: 'gpu' is not allowed (allowed: auto, cpu, cuda"),
        ("dense=3", "dense: must be a mapping of keys to values, got 3"),
        ("dense.seed=some", "dense.seed: "),
        ("name=../up", "name: '../up' cannot name a folder"),
        ("constraints=[latncy_ms <= 5]", "constraints.0: unknown metric 'latncy_ms'; did you mean 'latency_ms'?"),
        ("constraints=[size_mb < 5]", "constraints.0: 'size_mb < 5': '<' is not allowed (allowed: <=, >=)"),
        ("constraints=[test_wer <= 0.1]", "constraints.0: 'test_wer' is of the test set"),
        ("mode=some", "mode: 'some' is not allowed (allowed: pareto, cells, fixed)"),
        (
            "model=lstm_transduser",
            "model.name: unknown recogniser 'lstm_transduser'; did you mean 'lstm_transducer'? (known: ",
        ),
        (
            "model={name: lstm_ctc, joint_width: 32}",
            "model.joint_width: 'lstm_ctc' has no such size (it has: encoder_layers, encoder_width)",
        ),
        ("model.options.layers=2", "model.options.layers: unknown key (known: )"),
        (
            "warm_start=other",
            "warm_start: the sampler 'grid' does not learn from earlier trials (those that do: tpe, gp)",
        ),
        ("early_stopping=median", "early_stopping: needs `mode: cells`"),
        ("methods.0.sparsity=0.5", "methods.0.sparsity: sparsities of one method need `mode: fixed`"),
        ("methods.1=csp", "methods.1: 'csp' is listed twice: give lists in its params instead, or use the mode fixed"),
        ("workers=0", "workers: should be greater than or equal to 1, got 0"),
    ],
)
def test_overrides_are_judged_like_the_file(tmp_path: Path, change: str, expected: str) -> None:
    lines = message(tmp_path, GOOD, change)
    assert lines[0].endswith("1 problem"), lines
    assert lines[1].startswith(f"--set {change}: {expected}") or lines[1].startswith(f"file: {expected}"), lines[1]


def test_a_sampler_must_fit_the_mode_and_the_number_of_trials(tmp_path: Path) -> None:
    assert message(tmp_path, GOOD, "mode=fixed", "sampler=tpe", "trials=5")[1] == (
        "--set sampler=tpe: sampler: the mode fixed runs every setting once, without a sampler: remove 'tpe'"
    )
    assert "the sampler 'gp' takes at most 300" in message(tmp_path, GOOD, "sampler=gp", "trials=500")[1]
    load_config(write(tmp_path, GOOD), map(parse_override, ["mode=fixed", "methods.1=csp", "methods.1.sparsity=0.7"]))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("objectives=[wer, size]", "objectives: the mode cells minimises one, got wer, size"),
        ("seeds=[0, 1]", "seeds: early stopping compares single trials: give one seed"),
        ("early_stopping.warmup=2", "early_stopping.warmup: must be less than prune.epochs (2), or no trial is ever"),
        (
            "early_stopping.name=asha",
            "early_stopping.name: 'asha' is not allowed (allowed: median, halving, hyperband)",
        ),
    ],
)
def test_early_stopping_needs_single_trials_of_one_objective(tmp_path: Path, change: str, expected: str) -> None:
    cells = ["mode=cells", "early_stopping.metric=dev_wer"]
    load_config(write(tmp_path, GOOD), map(parse_override, cells))
    assert message(tmp_path, GOOD, *cells, change)[1].startswith(f"--set {change}: {expected}")


def test_the_examples_of_the_documentation_are_good_files(tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "howto" / "sweep.md"
    examples = re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.M | re.S)
    assert len(examples) >= 4
    for example in examples:
        given = {line.partition(":")[0] for line in example.splitlines()}
        rest = [line for line in GOOD.partition("methods:")[0].splitlines() if line.partition(":")[0] not in given]
        methods = [] if "methods" in given else ["methods: [csp]"]
        load_config(write(tmp_path, "\n".join([*rest, *methods, example])))


def test_a_pattern_is_refused_if_no_sparsity_leaves_it_enough_zeros(tmp_path: Path) -> None:
    lines = message(tmp_path, GOOD, "sparsity=[0.3, 0.4]", "methods.0.params.pattern=2:4")
    assert "methods.0.params.pattern: '2:4' keeps at most 5" in lines[1]
    load_config(write(tmp_path, GOOD), map(parse_override, ["sparsity=[0.3, 0.6]", "methods.0.params.pattern=2:4"]))


@pytest.mark.parametrize("change", ["dense.distillation=0.5", "dense.start=fresh"])
def test_what_only_a_pruning_run_has_is_no_part_of_the_dense_training(tmp_path: Path, change: str) -> None:
    lines = message(tmp_path, GOOD, change)
    assert "it belongs under prune" in lines[1]


def test_nothing_may_be_said_that_a_pretrained_recogniser_determines(tmp_path: Path) -> None:
    text = GOOD.replace("dense: {epochs: 3, learning_rate: 1e-3, seed: 4}", "dense: {pretrained: spoken_commands}")
    config = load_config(write(tmp_path, text), [parse_override("model.dropout=0.2")])
    assert (config.model.preset, config.model.dropout) == ("tiny", 0.2)
    for change, expected in {
        "dense.epochs=3": "dense.epochs: a pretrained recogniser is not trained: remove it",
        "dense.seed=each": "dense.seed: a pretrained recogniser is not trained: remove it",
        "prune.start=fresh": "prune.start: a pretrained recogniser has no fresh weights",
        "model.preset=paper": "model: that of the pretrained recogniser differs: remove everything but `dropout`",
        "features.mels=80": "features: those of the pretrained recogniser differ: remove these",
        "dense.pretrained=nowhere": "dense.pretrained: no model in",
        "methods.0=lottery": "methods.0: 'lottery' rewinds to weights from during the dense training",
    }.items():
        lines = message(tmp_path, text, change)
        assert len(lines) == 2, lines
        assert expected in lines[1]
    rewinding = ["methods.0=lottery", "methods.0.params.rewinding=learning_rate"]
    load_config(write(tmp_path, text), map(parse_override, rewinding))
    both = [rewinding[0], "methods.0.params.rewinding=[learning_rate, weights]"]
    assert "methods.0: 'lottery' rewinds" in message(tmp_path, text, *both)[1]


def test_overrides_set_what_they_name(tmp_path: Path) -> None:
    changes = ["prune.epochs=9", "methods.0.params.damping=[1e-2, 0.05]", "sparsity=0.8", "dense.augment.speeds=[0.9]"]
    config = load_config(write(tmp_path, GOOD), map(parse_override, changes))
    assert config.prune.epochs == 9
    assert method_axes(config.methods[0]) == {"damping": Choice((0.01, 0.05))}
    assert config.sparsity.values == (0.8,)
    assert config.dense.augment.speeds == (0.9,)


@pytest.mark.parametrize("text", ["prune.epochs", "=3", "a..b=1", "a=[1"])
def test_an_override_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--set|not a YAML value"):
        parse_override(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nname: b\n", "line 2: 'name' is given twice, first on line 1"),
        ("name: [a\n", "is not YAML: line 2"),
        ("- a\n", "must be a mapping of keys to values"),
        ("", "must be a mapping of keys to values"),
        ("name: !!python/object:os.system x\n", "is not YAML"),
        ("a: &a [*a]\n", "an alias that contains itself"),
    ],
)
def test_files_that_are_no_sweeps(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in "\n".join(message(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*absent\.yaml: No such file"):
        load_config(tmp_path / "absent.yaml")


def test_search_covers_the_declared_ranges_except_what_is_fixed() -> None:
    data = {"name": "s", "sparsity": {"low": 0.5, "high": 0.9}, "trials": 5, "sampler": "tpe"}
    entry = {"name": "csp", "search": True, "params": {"damping": {"low": 1e-3, "high": 1e-1, "log": True}, "end": 0.5}}
    config = SweepConfig.model_validate({**data, "methods": [entry]})
    axes = method_axes(config.methods[0])
    assert axes["damping"] == Range(1e-3, 1e-1, log=True)
    assert axes["end"] == Choice((0.5,))
    assert axes["interval"] == Range(5, 40, log=True, integer=True)
    assert isinstance(axes["allocation"], Choice)
    assert "patience" not in axes, "csp as it is by default does not use it"


def test_entries_of_a_mapping_are_axes_of_their_own(tmp_path: Path) -> None:
    text = """\
name: shares
sparsity: [0.9]
sampler: tpe
trials: 5
methods:
  - name: magnitude
    params:
      allocation: [uniform, erk]
      density:
        encoder: {low: 0.5, high: 2, log: true}
        joint: [0.5, 1, 2]
        weight_hh_l[01]$: 2
"""
    config = load_config(write(tmp_path, text))
    assert method_axes(config.methods[0]) == {
        "allocation": Choice(("uniform", "erk")),
        "density.encoder": Range(0.5, 2, log=True),
        "density.joint": Choice((0.5, 1, 2)),
        "density.weight_hh_l[01]$": Choice((2,)),
    }
    wrong = text.replace("low: 0.5", "low: -1").replace("joint:", '"(":').replace("l[01]$: 2", "l[01]$: [1, -2]")
    assert message(tmp_path, wrong)[1:] == [
        "line 10: methods.0.params.density.encoder: a logarithmic range must start above 0, got -1",
        "line 11: methods.0.params.density.(: '(' is not a regular expression: "
        "missing ), unterminated subpattern at position 0",
        "line 12: methods.0.params.density.weight_hh_l[01]$.1: should be greater than 0, got -2",
    ]
    assert message(tmp_path, text.replace("[uniform, erk]", "[erk, global]"))[1].startswith(
        "line 7: methods.0.params: density needs allocation uniform or erk"
    )
