"""Rules between the parts of a comparison file, and with the plug-ins it names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from cspbench.comparison.config import BROKEN, CONTROL, ComparedMethod, ComparisonConfig, Tuning, axes_entry
from cspbench.config.axes import Choice
from cspbench.config.problems import Problem, from_validation
from cspbench.config.rules import (
    corpus_problems,
    dense_problems,
    method_axes,
    method_problems,
    model_problems,
    rewinding_problems,
)
from cspbench.config.yamlfile import Location
from cspbench.errors import did_you_mean
from cspbench.spec import TrainSpec


def comparison_problems(config: ComparisonConfig) -> Iterator[Problem]:
    """Everything wrong with a file whose single values are right."""
    yield from _corpora_problems(config)
    yield from _budget_problems(config)
    seen: set[Problem] = set()
    for problem in _methods_problems(config):  # an axis of `tuning.every` may be wrong for several methods
        if problem not in seen:
            seen.add(problem)
            yield problem
    yield from _tuning_problems(config)


def _corpora_problems(config: ComparisonConfig) -> Iterator[Problem]:
    yield from _twice([entry.key for entry in config.corpora], "corpora")
    for index, entry in enumerate(config.corpora):
        at: Location = ("corpora", index)
        found = [*corpus_problems(entry.corpus), *dense_problems(entry), *model_problems(entry)]
        yield from (Problem((*at, *problem.at), problem.message) for problem in found)
        if config.dense_seeds is not None and "seed" in entry.dense.model_fields_set:
            yield Problem((*at, "dense", "seed"), "dense_seeds of the file says which; remove one of the two")
        if config.dense_seeds is not None and entry.dense.pretrained is not None:
            yield Problem((*at, "dense", "pretrained"), "it has no seeds: remove dense_seeds of the file")
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


def _budget_problems(config: ComparisonConfig) -> Iterator[Problem]:
    methods, corpora = [entry.key for entry in config.methods], [entry.key for entry in config.corpora]
    for index, budget in enumerate(config.budgets):
        at: Location = ("budgets", index)
        if budget in config.budgets[:index]:
            yield Problem(at, f"this part of budget {budget.times:g} is there already")
        yield from _fractions_of_epochs(config, budget.times, at)
        yield from _unknown_labels(budget.methods or (), methods, "method", (*at, "methods"))
        yield from _unknown_labels(budget.corpora or (), corpora, "corpus", (*at, "corpora"))
    if config.tuning is not None:
        for index, number in enumerate(config.tuning.budgets):
            yield from _fractions_of_epochs(config, number, ("tuning", "budgets", index))


def _unknown_labels(named: Sequence[str], labels: Sequence[str], kind: str, at: Location) -> Iterator[Problem]:
    """Labels of methods or corpora that the file does not have; no problem while it has broken ones itself."""
    if BROKEN in labels or not all(labels):
        return
    for position, label in enumerate(named):
        if label not in labels:
            hint = f"{did_you_mean(label, labels)} (labels: {', '.join(labels)})"
            yield Problem((*at, position), f"no {kind} is labelled '{label}'{hint}")


def _fractions_of_epochs(config: ComparisonConfig, times: float, at: Location) -> Iterator[Problem]:
    for entry in config.corpora:
        epochs = times * entry.prune.epochs
        if abs(epochs - round(epochs)) > 1e-9 or round(epochs) < 1:
            yield Problem(at, f"{times:g} times the {entry.prune.epochs} epochs of '{entry.key}' is no whole number")
            return


def _methods_problems(config: ComparisonConfig) -> Iterator[Problem]:
    labels = [entry.key for entry in config.methods]
    yield from _twice(labels, "methods")
    if config.proposed not in labels and all(labels):
        hint = did_you_mean(config.proposed, labels)
        yield Problem(("proposed",), f"no method is labelled '{config.proposed}'{hint} (labels: {', '.join(labels)})")
    for index, entry in enumerate(config.methods):
        at: Location = ("methods", index)
        if config.control and entry.key == CONTROL:
            yield Problem(at, f"'{CONTROL}' is the row of the control: choose another label, or set control: false")
        found = [*_entry_problems(entry, config.tuning, at), *_training_problems(config, entry, at)]
        yield from found
        if found:
            continue
        for recipe in config.corpora:
            yield from rewinding_problems(axes_entry(entry, config.tuning), at, recipe)
        if entry.tuned and config.tuning is not None:
            yield from _scarcity(entry, config.tuning, (*at, "tune"))


def _entry_problems(entry: ComparedMethod, tuning: Tuning | None, at: Location) -> Iterator[Problem]:
    own = entry.tune if isinstance(entry.tune, dict) else {}
    for name in sorted({*entry.params} & {*own}):
        yield Problem((*at, "tune", name), "fixed in params and tuned: it can only be one of both")
    common = {*(tuning.every if tuning is not None else ())} - {*entry.params} - {*own}
    for problem in method_problems(axes_entry(entry, tuning), at, grid=False):
        rest = problem.at[len(at) :]
        where = (*at, *rest)
        if rest[:1] == ("params",) and len(rest) > 1:
            if rest[1] in own:
                where = (*at, "tune", *rest[1:])
            elif rest[1] in common:
                where = ("tuning", "every", *rest[1:])
        yield Problem(where, problem.message)


def _training_problems(config: ComparisonConfig, entry: ComparedMethod, at: Location) -> Iterator[Problem]:
    if entry.training and entry.division == "closed":
        yield Problem((*at, "training"), "changes the pruning run, which the closed division fixes: division: open")
    for corpus in config.corpora:
        if entry.training.get("start") == "fresh" and corpus.dense.pretrained is not None:
            yield Problem(
                (*at, "training", "start"), f"the pretrained recogniser of '{corpus.key}' has no fresh weights"
            )
    try:
        TrainSpec.model_validate(config.corpora[0].prune.model_dump() | entry.training)
    except ValidationError as error:
        yield from from_validation(error, TrainSpec, (*at, "training"))


def _scarcity(entry: ComparedMethod, tuning: Tuning, at: Location) -> Iterator[Problem]:
    """Tuning is equal only if every tuned method has as many settings to offer."""
    axes: list[Any] = [*method_axes(axes_entry(entry, tuning)).values(), Choice(tuning.learning_rate)]
    if not any(not isinstance(axis, Choice) or len(axis.values) > 1 for axis in axes):
        nothing = "an empty mapping leaves nothing to tune; remove it, or give axes or true"
        yield Problem(at, nothing if entry.tune == {} else f"'{entry.name}' declares no ranges: name what to tune")
    elif all(isinstance(axis, Choice) for axis in axes):
        settings = 1 + math.prod(len(axis.values) for axis in axes)
        if settings < tuning.trials:
            asked = f"tuning.trials asks for {tuning.trials}"
            yield Problem(at, f"{settings} settings at most, the default included; {asked}")


def _tuning_problems(config: ComparisonConfig) -> Iterator[Problem]:
    tuned = [entry for entry in config.methods if entry.tuned]
    tuning = config.tuning
    if tuning is None:
        if tuned:
            names = ", ".join(entry.key for entry in tuned)
            yield Problem(("tuning",), f"must be given: {names} are to be tuned")
        return
    if tuning.seed in config.seeds:
        yield Problem(("tuning", "seed"), f"{tuning.seed} is among the final seeds: those must be fresh")
    for name in tuning.every:
        if all(entry.name for entry in config.methods) and not any(_has(entry, tuning, name) for entry in tuned):
            yield Problem(("tuning", "every", name), "no tuned method has such a hyperparameter that is not fixed")
    labels = [entry.key for entry in config.corpora]
    if BROKEN in labels:
        return
    yield from _unknown_labels(tuning.corpora or (), labels, "corpus", ("tuning", "corpora"))
    if {*(tuning.corpora or ())} <= {*labels}:
        yield from _fold_problems(config, tuning)


def _has(entry: ComparedMethod, tuning: Tuning, name: str) -> bool:
    return name in axes_entry(entry, tuning).params and name not in entry.params


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
