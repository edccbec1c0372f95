"""What a comparison file may say: which methods meet on which corpora, and how their settings are found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cspbench.config.axes import Choice
from cspbench.config.load import Kind, Override, load_file
from cspbench.config.problems import Problem
from cspbench.config.rules import corpus_problems, method_axes, method_problems
from cspbench.config.schema import BareName, Device, Distinct, MethodEntry, Name, Recipe, Seed, Share
from cspbench.config.yamlfile import Location
from cspbench.errors import did_you_mean
from cspbench.hyper import Frozen
from cspbench.spec import LatencySpec

Seeds = Annotated[tuple[Seed, ...], Distinct]
Sparsities = Annotated[tuple[Share, ...], Distinct]

BROKEN = "?"
"""Label of a corpus that could not be read, and is reported as such."""


class Folds(Frozen):
    """Cross-validation over speakers in place of a corpus's own splits, see `cspbench.spec.Fold`."""

    of: int = Field(ge=3, description="parts the speakers are divided into")
    use: Seeds = Field(min_length=1, description="folds whose test speakers are reported")
    pair: Literal["each", "cross"] = Field("each", description="a fold a seed in turn, or every fold with every seed")

    @model_validator(mode="after")
    def _exist(self) -> Folds:
        if max(self.use) >= self.of:
            raise ValueError(f"of {self.of} folds the last is number {self.of - 1}, not {max(self.use)}")
        return self

    def dev_of(self, fold: int) -> int:
        """The fold whose speakers are dev while those of `fold` are test."""
        return (fold + 1) % self.of


class ComparedCorpus(Recipe):
    """A recipe that methods are compared by; `folds` divides its speakers anew."""

    label: str = Field("", description="names it in tables; unset: the name of its corpus")
    folds: Folds | None = None

    @property
    def key(self) -> str:
        """Its label in tables."""
        return self.label or self.corpus.name


class ComparedMethod(Frozen):
    """A row of the tables: a method with some of its hyperparameters fixed and some tuned.

    `params` are values; `tune` holds axes as a sweep file's (lists of choices, ranges), or true for those that the
    method declares. What is in neither keeps its default.
    """

    name: str
    label: str = Field("", description="names it in tables; unset: the name of the method")
    params: dict[str, Any] = Field(default_factory=dict)
    tune: dict[str, Any] | bool = False

    @property
    def key(self) -> str:
        """Its label in tables."""
        return self.label or self.name

    @property
    def tuned(self) -> bool:
        """Whether its setting is chosen from several."""
        return bool(self.tune)


class Tuning(Frozen):
    """How settings are found: the same number of random settings for every tuned method, the first its default."""

    trials: int = Field(3, ge=1, description="settings tried for each tuned method and sparsity")
    at: Sparsities = Field(
        min_length=1, description="sparsities; the others take the setting of that of nearest density"
    )
    corpora: tuple[str, ...] | None = Field(None, description="labels; the settings are carried to the other corpora")
    folds: Seeds | None = Field(None, description="folds of corpora that have some")
    seed: Seed = 0


class ComparisonConfig(Frozen):
    """A whole comparison file."""

    name: Name = Field(description="names the study and its MLflow experiment")
    corpora: tuple[ComparedCorpus, ...] = Field(min_length=1)
    sparsity: Sparsities = Field(min_length=1, description="absolute shares of zeros, the most urgent first")
    methods: tuple[Annotated[ComparedMethod, BareName], ...] = Field(min_length=1)
    proposed: str = Field("csp", description="label of the method that all others are tested against")
    tuning: Tuning | None = None
    seeds: Seeds = Field((1, 2, 3), min_length=1, description="fresh ones: never that of the tuning")
    latency: LatencySpec = LatencySpec()
    workers: int = Field(1, ge=1, description="processes on this machine")
    device: Device = "auto"

    def tuned_corpora(self) -> list[ComparedCorpus]:
        """The corpora on which settings are found."""
        chosen = self.tuning.corpora if self.tuning is not None else ()
        return [entry for entry in self.corpora if chosen is None or entry.key in chosen]


def load_comparison_config(path: Path | str, overrides: Iterable[Override] = ()) -> ComparisonConfig:
    """Read and check a comparison file.

    Raises:
        ConfigError: the file cannot be read, or one message with all that is wrong in it.
    """
    return load_file(path, overrides, COMPARISON)


def axes_entry(entry: ComparedMethod) -> MethodEntry:
    """The entry of a sweep file that spans the same settings: what is fixed is a choice of one."""
    axes = entry.tune if isinstance(entry.tune, dict) else {}
    fixed = {name: [value] for name, value in entry.params.items()}
    return MethodEntry(name=entry.name, params={**fixed, **axes}, search=entry.tune is True)


def comparison_problems(config: ComparisonConfig) -> Iterator[Problem]:
    """Everything wrong with a file whose single values are right."""
    yield from _corpora_problems(config)
    yield from _methods_problems(config)
    yield from _tuning_problems(config)


def _corpora_problems(config: ComparisonConfig) -> Iterator[Problem]:
    yield from _twice([entry.key for entry in config.corpora], "corpora")
    for index, entry in enumerate(config.corpora):
        at: Location = ("corpora", index)
        yield from (Problem((*at, *problem.at), problem.message) for problem in corpus_problems(entry.corpus))
        folds = entry.folds
        if folds is None:
            continue
        if entry.corpus.fold is not None:
            yield Problem((*at, "corpus", "fold"), "the folds of this corpus say which; remove one of the two")
        if folds.pair == "each" and len(config.seeds) < len(folds.use):
            yield Problem(
                (*at, "folds", "use"),
                f"{len(config.seeds)} seeds cannot visit {len(folds.use)} folds one by one; use fewer, or pair: cross",
            )


def _methods_problems(config: ComparisonConfig) -> Iterator[Problem]:
    labels = [entry.key for entry in config.methods]
    yield from _twice(labels, "methods")
    if config.proposed not in labels and all(labels):
        hint = did_you_mean(config.proposed, labels)
        yield Problem(("proposed",), f"no method is labelled '{config.proposed}'{hint} (labels: {', '.join(labels)})")
    for index, entry in enumerate(config.methods):
        at: Location = ("methods", index)
        found = list(_entry_problems(entry, at))
        yield from found
        if not found and entry.tuned and config.tuning is not None:
            yield from _scarcity(entry, config.tuning.trials, (*at, "tune"))


def _entry_problems(entry: ComparedMethod, at: Location) -> Iterator[Problem]:
    axes = entry.tune if isinstance(entry.tune, dict) else {}
    if entry.tune == {}:
        yield Problem((*at, "tune"), "an empty mapping leaves nothing to tune; remove it, or give axes or true")
    for name in sorted({*entry.params} & {*axes}):
        yield Problem((*at, "tune", name), "fixed in params and tuned: it can only be one of both")
    for problem in method_problems(axes_entry(entry), at, grid=False):
        rest = problem.at[len(at) :]
        if rest[:1] == ("params",) and len(rest) > 1 and rest[1] in axes:
            rest = ("tune", *rest[1:])
        yield Problem((*at, *rest), problem.message)


def _scarcity(entry: ComparedMethod, trials: int, at: Location) -> Iterator[Problem]:
    """Budgets are equal only if every tuned method has as many settings to offer."""
    axes = method_axes(axes_entry(entry)).values()
    if not any(not isinstance(axis, Choice) or len(axis.values) > 1 for axis in axes):
        yield Problem(at, f"'{entry.name}' declares no ranges: name what to tune")
    elif all(isinstance(axis, Choice) for axis in axes):
        settings = 1 + math.prod(len(axis.values) for axis in axes if isinstance(axis, Choice))
        if settings < trials:
            yield Problem(at, f"{settings} settings at most, the default included; tuning.trials asks for {trials}")


def _tuning_problems(config: ComparisonConfig) -> Iterator[Problem]:
    tuned = [entry.key for entry in config.methods if entry.tuned]
    tuning = config.tuning
    if tuning is None:
        if tuned:
            yield Problem(("tuning",), f"must be given: {', '.join(tuned)} are to be tuned")
        return
    if tuning.seed in config.seeds:
        yield Problem(("tuning", "seed"), f"{tuning.seed} is among the final seeds: those must be fresh")
    labels = [entry.key for entry in config.corpora]
    if BROKEN in labels:
        return
    unknown = [label for label in tuning.corpora or () if label not in labels]
    for label in unknown:
        hint = f"{did_you_mean(label, labels)} (labels: {', '.join(labels)})"
        at = ("tuning", "corpora", (tuning.corpora or ()).index(label))
        yield Problem(at, f"no corpus is labelled '{label}'{hint}")
    if not unknown:
        yield from _fold_problems(config, tuning)


def _fold_problems(config: ComparisonConfig, tuning: Tuning) -> Iterator[Problem]:
    """Settings are chosen on the dev speakers of a fold, so those must not be reported on in another."""
    divided = [(entry.key, entry.folds) for entry in config.tuned_corpora() if entry.folds is not None]
    at: Location = ("tuning", "folds")
    if divided and not tuning.folds:
        yield Problem(at, f"must be given: the folds of '{divided[0][0]}' to tune on")
    if tuning.folds and not divided:
        yield Problem(at, "no corpus that settings are tuned on has folds")
    for index, fold in enumerate(tuning.folds or ()):
        for label, folds in divided:
            if fold >= folds.of:
                yield Problem((*at, index), f"of {folds.of} folds of '{label}' the last is number {folds.of - 1}")
            elif folds.dev_of(fold) in folds.use:
                yield Problem(
                    (*at, index),
                    f"its dev speakers are fold {folds.dev_of(fold)}, on which '{label}' is reported: leave one out",
                )


def _twice(labels: list[str], key: str) -> Iterator[Problem]:
    for index, label in enumerate(labels):
        if label not in ("", BROKEN) and label in labels[:index]:
            yield Problem((key, index), f"'{label}' is there already: give each a label of its own")


COMPARISON = Kind(
    ComparisonConfig,
    comparison_problems,
    stand_ins={"name": "unnamed", "corpora": [{"label": BROKEN}], "sparsity": [0.0], "methods": [""]},
    items={"methods": "", "corpora": {"label": BROKEN}},
)
