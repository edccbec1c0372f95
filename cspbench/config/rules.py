"""Rules between the parts of a sweep file, and with the plug-ins it names."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from pydantic import ValidationError

from cspbench.asr.recognisers import prunable_shapes, recognisers
from cspbench.config.axes import Axis, Choice, Range, declared_axis, edge_values, is_integer, read_axis, written_axes
from cspbench.config.problems import Problem, from_validation
from cspbench.config.schema import DenseTraining, MethodEntry, Recipe, SweepConfig
from cspbench.config.yamlfile import Location
from cspbench.corpora import corpora
from cspbench.errors import did_you_mean
from cspbench.hyper import Hyperparameters, nest
from cspbench.pruning.registry import methods
from cspbench.pruning.selection import parse_pattern
from cspbench.spec import SIZES, CorpusSpec, ModelSpec
from cspbench.training.pretrained import pretrained_folder, recogniser_specs

COMBINATIONS = 10_000
"""Combinations of one method's listed values that a grid may hold."""

GP_TRIALS = 300
"""Settings that the sampler `gp` takes."""

LEARNING = ("tpe", "gp")
"""Samplers that learn from trials they have not proposed; populations of nsga2 and nsga3 are bred from their own."""

OTHERS = "a range needs a sampler such as tpe, random or nsga2"

FEWEST_AND_MOST_UNITS = (1, 65_536)
"""Bounds of the vocabulary, whose size is known only when the transcripts have been read."""


def method_axes(entry: MethodEntry) -> dict[str, Axis]:
    """Axes of a valid entry by hyperparameter (dotted: `written_axes`); those that keep their default are left out."""
    params = methods.get(entry.name).Params
    axes: dict[str, Axis] = {}
    if entry.search:
        axes = {name: declared_axis(note, is_integer(params, name)) for name, note in params.search_space().items()}
    for name, value in entry.params.items():
        written = written_axes(params, name, value)
        axes |= {dotted: read_axis(part, is_integer(params, name)) for dotted, part in written.items()}
    return axes


def rule_problems(config: SweepConfig) -> Iterator[Problem]:
    """Everything wrong with a file whose single values are right."""
    grid = config.sampler.name == "grid"
    yield from mode_problems(config)
    if grid and config.sparsity.values is None:
        yield Problem(("sparsity",), f"a grid needs a list; {OTHERS}")
    if not grid and config.trials is None:
        yield Problem(("trials",), f"must be given: the sampler '{config.sampler.name}' never ends by itself")
    yield from corpus_problems(config.corpus)
    of_model = [*dense_problems(config), *model_problems(config)]
    yield from of_model
    has_model = not any(problem.at[0] == "model" for problem in of_model)
    seen: set[str] = set()
    known = methods.names()
    for index, entry in enumerate(config.methods):
        found = list(method_problems(entry, ("methods", index), grid))
        yield from found
        if entry.name and not found and has_model:
            yield from selection_problems(entry, ("methods", index), config)
            yield from rewinding_problems(entry, ("methods", index), config)
        if entry.name in known and not methods.get(entry.name).prunes:
            message = (
                f"'{entry.name}' prunes nothing and runs beside every sweep: remove it (`control: false` leaves it out)"
            )
            yield Problem(("methods", index), message)
        if entry.name and entry.name in seen and config.mode != "fixed":
            message = f"'{entry.name}' is listed twice: give lists in its params instead, or use the mode fixed"
            yield Problem(("methods", index), message)
        seen.add(entry.name)


def mode_problems(config: SweepConfig) -> Iterator[Problem]:
    """Yield what does not go together with the mode, or with the sampler."""
    sampler = config.sampler.name
    if config.mode == "fixed" and sampler != "grid":
        yield Problem(("sampler",), f"the mode fixed runs every setting once, without a sampler: remove '{sampler}'")
    if config.mode == "cells":
        yield from cell_problems(config)
    elif config.early_stopping is not None:
        yield Problem(("early_stopping",), "needs `mode: cells`: only trials of one cell can be compared")
    for index, entry in enumerate(config.methods):
        if entry.sparsity is not None and config.mode != "fixed":
            yield Problem(("methods", index, "sparsity"), "sparsities of one method need `mode: fixed`")
    if config.warm_start is not None and sampler not in LEARNING:
        message = f"the sampler '{sampler}' does not learn from earlier trials (those that do: {', '.join(LEARNING)})"
        yield Problem(("warm_start",), message)
    if config.warm_start == config.name:
        yield Problem(("warm_start",), "a study goes on with its own trials by itself: name another one")
    if sampler == "gp" and (config.trials or 0) > GP_TRIALS:
        message = f"the sampler 'gp' takes at most {GP_TRIALS}: its cost grows with their cube; use tpe"
        yield Problem(("trials",), message)


def cell_problems(config: SweepConfig) -> Iterator[Problem]:
    """Yield what does not go together with a search in each cell of method and sparsity."""
    if config.sparsity.values is None:
        yield Problem(("sparsity",), "the mode cells needs a list of sparsities")
    if len(config.objectives) > 1:
        yield Problem(("objectives",), f"the mode cells minimises one, got {', '.join(config.objectives)}")
    if config.early_stopping is None:
        return
    if len(config.seeds) > 1:
        yield Problem(("seeds",), "early stopping compares single trials: give one seed")
    if config.early_stopping.warmup >= config.prune.epochs:
        message = f"must be less than prune.epochs ({config.prune.epochs}), or no trial is ever stopped"
        yield Problem(("early_stopping", "warmup"), message)


def corpus_problems(spec: CorpusSpec) -> Iterator[Problem]:
    """Yield what is wrong with the corpus at ``corpus``."""
    known = corpora.names()
    if spec.name not in known:
        message = f"unknown corpus '{spec.name}'{did_you_mean(spec.name, known)} (known: {', '.join(known)})"
        yield Problem(("corpus", "name"), message)
        return
    loader = corpora.get(spec.name)
    if loader.needs_path and spec.path is None:
        yield Problem(("corpus", "path"), f"must be given: the folder the audio of '{spec.name}' lies in")
    if not loader.needs_path and spec.path is not None:
        yield Problem(("corpus", "path"), f"'{spec.name}' makes its own audio; remove the path")
    try:
        loader.Options.model_validate(spec.options)
    except ValidationError as error:
        yield from from_validation(error, loader.Options, ("corpus", "options"))


def dense_problems(recipe: Recipe) -> Iterator[Problem]:
    """Yield what cannot be said of a dense recogniser, or is given although a pretrained one determines it."""
    if recipe.dense.pretrained is None:
        for name in ("distillation", "start"):
            if getattr(recipe.dense, name) != getattr(DenseTraining(), name):
                yield Problem(
                    ("dense", name), "is about runs that start from a dense recogniser: it belongs under prune"
                )
        return
    model, features = recogniser_specs(recipe.dense.pretrained)
    if recipe.features != features:
        yield Problem(("features",), "those of the pretrained recogniser differ: remove these")
    if recipe.model.model_copy(update={"dropout": model.dropout}) != model:
        yield Problem(("model",), "that of the pretrained recogniser differs: remove everything but `dropout`")
    given = recipe.dense.model_copy(update={"pretrained": None})
    for name in type(given).model_fields:
        if getattr(given, name) != getattr(DenseTraining(), name):
            yield Problem(("dense", name), "a pretrained recogniser is not trained: remove it")
    if recipe.prune.start == "fresh":
        yield Problem(("prune", "start"), "a pretrained recogniser has no fresh weights: remove it")


def rewinding_problems(entry: MethodEntry, at: Location, recipe: Recipe) -> Iterator[Problem]:
    """Yield a problem if the valid entry at `at` may rewind weights that a pretrained recogniser lacks."""
    if recipe.dense.pretrained is None or pretrained_folder(recipe.dense.pretrained).snapshots:
        return
    axes = method_axes(entry)
    method = methods.get(entry.name)
    values = itertools.product(*map(edge_values, axes.values()))
    for combination in itertools.islice(values, COMBINATIONS):
        params = method.Params.model_validate(nest(dict(zip(axes, combination, strict=True))))
        if method.rewinds_weights(params):
            message = (
                f"'{entry.name}' rewinds to weights from during the dense training, and the pretrained recogniser "
                "comes without them (snapshot-*.safetensors)"
            )
            yield Problem(at, message)
            return


def model_problems(recipe: Recipe) -> Iterator[Problem]:
    """Yield what is wrong with ``model``, or the patterns at ``prunable`` that match no weight matrix of it."""
    found = list(_recogniser_problems(recipe))
    yield from found
    if found:
        return
    names = list(prunable_shapes(recipe.model, recipe.features, units=1))
    for index, pattern in enumerate(recipe.prunable):
        if not any(fnmatchcase(name, pattern) for name in names):
            message = f"'{pattern}' matches no weight matrix of this model (there are: {', '.join(names)})"
            yield Problem(("prunable", index), message)


def _recogniser_problems(recipe: Recipe) -> Iterator[Problem]:
    spec, known = recipe.model, recognisers.names()
    if spec.name not in known:
        message = f"unknown recogniser '{spec.name}'{did_you_mean(spec.name, known)} (known: {', '.join(known)})"
        yield Problem(("model", "name"), message)
        return
    kind = recognisers.get(spec.name)
    taken = {size for preset in kind.presets.values() for size in preset}
    if spec.preset not in kind.presets and (kind.presets or spec.preset != ModelSpec().preset):
        others = f"there are: {', '.join(kind.presets)}" if kind.presets else "it has none: see model.options"
        yield Problem(("model", "preset"), f"'{spec.name}' has no preset '{spec.preset}' ({others})")
    has = ", ".join(sorted(taken)) or "none"
    for size in SIZES:
        if getattr(spec, size) is not None and size not in taken:
            yield Problem(("model", size), f"'{spec.name}' has no such size (it has: {has})")
    try:
        kind.Options.model_validate(spec.options)
    except ValidationError as error:
        yield from from_validation(error, kind.Options, ("model", "options"))
    if recipe.prune.distillation and not kind.distils:
        yield Problem(("prune", "distillation"), f"is not defined for '{spec.name}': set it to 0")


def selection_problems(entry: MethodEntry, at: Location, config: SweepConfig) -> Iterator[Problem]:
    """Return densities of matrices that the model does not have, and patterns that no sparsity of the file can meet.

    Args:
        entry: a valid entry.
        at: its location.
        config: the file.
    """
    shapes = [_prunable(config, units) for units in FEWEST_AND_MOST_UNITS]
    if not shapes[0]:  # already reported
        return
    axes = method_axes(entry)
    for dotted in axes:
        name, _, expression = dotted.partition(".")
        if name == "density" and expression and not any(re.search(expression, matrix) for matrix in shapes[0]):
            message = f"no prunable matrix is called '{expression}' (there are: {', '.join(shapes[0])})"
            yield Problem((*at, "params", name, expression), message)
    highest = max(entry.sparsity or config.sparsity.values or (config.sparsity.high or 0.0,))
    for text in edge_values(axes["pattern"]) if "pattern" in axes else ():
        fractions = [_kept_at_most(matrices, text) for matrices in shapes]
        if 0 < highest < 1 - max(fractions):  # whatever the size of the vocabulary turns out to be
            message = (
                f"'{text}' keeps at most {max(fractions):.1%} of the weights: too few for any sparsity of this file"
            )
            yield Problem((*at, "params", "pattern"), message)


def _prunable(config: SweepConfig, units: int) -> dict[str, tuple[int, int]]:
    shapes = prunable_shapes(config.model, config.features, units)
    return {name: shape for name, shape in shapes.items() if any(fnmatchcase(name, p) for p in config.prunable)}


def _kept_at_most(shapes: Mapping[str, tuple[int, int]], text: str) -> float:
    """Fraction of the weights that a pattern can keep."""
    pattern, total = parse_pattern(text), sum(map(math.prod, shapes.values()))
    return 1.0 if pattern is None else sum(pattern.capacity(shape) for shape in shapes.values()) / total


def method_problems(entry: MethodEntry, at: Location, grid: bool) -> Iterator[Problem]:
    """Yield what is wrong with the entry at `at`; in a `grid` nothing can be drawn from a range."""
    known = methods.names()
    if not entry.name:  # already reported: the entry could not be read
        return
    if entry.name not in known:
        message = f"unknown pruning method '{entry.name}'{did_you_mean(entry.name, known)} (known: {', '.join(known)})"
        yield Problem((*at, "name"), message)
        return
    params = methods.get(entry.name).Params
    if grid and entry.search:
        yield Problem((*at, "search"), f"a grid cannot search ranges; {OTHERS}")
    axes: dict[str, Axis] = {}
    found = []
    for name, written in entry.params.items():
        if name not in params.model_fields:
            names = list(params.model_fields)
            hint = f"{did_you_mean(name, names)} (known: {', '.join(names) or 'none'})"
            found.append(Problem((*at, "params", name), f"'{entry.name}' has no such hyperparameter{hint}"))
            continue
        for dotted, part in written_axes(params, name, written).items():
            place = (*at, "params", *dotted.split(".", 1))
            try:
                axes[dotted] = read_axis(part, is_integer(params, name))
            except ValueError as error:
                found.append(Problem(place, str(error)))
                continue
            if grid and isinstance(axes[dotted], Range):
                found.append(Problem(place, f"a grid needs a list; {OTHERS}"))
            found += _value_problems(params, dotted, axes[dotted], place)
    yield from found
    if not found:
        yield from _combination_problems(params, axes, (*at, "params"))


def _value_problems(params: type[Hyperparameters], name: str, axis: Axis, at: Location) -> Iterator[Problem]:
    """Each value by itself: problems that pydantic finds at this hyperparameter."""
    own = tuple(name.split(".", 1))
    several = isinstance(axis, Choice) and len(axis.values) > 1
    for index, value in enumerate(edge_values(axis)):
        place = (*at, index) if several else (*at, ("low", "high")[index]) if isinstance(axis, Range) else at
        try:
            params.model_validate(nest({name: value}))
        except ValidationError as error:
            for problem in from_validation(error, params):
                if problem.at[: len(own)] == own:
                    yield Problem((*place, *problem.at[len(own) :]), problem.message)
                elif problem.at == own[:1]:  # the key of a mapping is at fault, whatever the value
                    yield Problem(at, problem.message)
                    return


def _combination_problems(params: type[Hyperparameters], axes: dict[str, Axis], at: Location) -> Iterator[Problem]:
    """Values that are right one by one but not together."""
    fixed: dict[str, Any] = {name: edge_values(axis) for name, axis in axes.items()}
    messages: set[str] = set()
    for values in itertools.islice(itertools.product(*fixed.values()), COMBINATIONS):
        combination = dict(zip(fixed, values, strict=True))
        try:
            params.model_validate(nest(combination))
        except ValidationError as error:
            for problem in from_validation(error, params, at):
                if problem.message not in messages:
                    messages.add(problem.message)
                    shown = ", ".join(f"{name}: {value}" for name, value in combination.items())
                    yield Problem(problem.at, f"{problem.message} (with {shown})")
