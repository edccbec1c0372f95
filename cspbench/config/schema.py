"""Schema of a sweep file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from cspbench.asr.recognisers import with_options
from cspbench.constraints import Constraint
from cspbench.errors import CspbenchError
from cspbench.hyper import Settings
from cspbench.spec import (
    CorpusSpec,
    DenseSpec,
    FeatureSpec,
    LatencySpec,
    MethodSpec,
    ModelSpec,
    PretrainedSpec,
    TrainSpec,
    TrialSpec,
)
from cspbench.store import NAME
from cspbench.training.pretrained import recogniser_specs, resolved

Objective = Literal["wer", "latency", "size"]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0)]


def _names_a_folder(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"'{name}' cannot name a folder: use letters, digits, '.', '_' and '-'")
    return name


def _all_different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"the same value is listed twice: {', '.join(map(str, values))}")
    return values


def _known_device(device: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device):
        raise ValueError(f"'{device}' is not allowed (allowed: auto, cpu, cuda, cuda:0, cuda:1, ...)")
    return device


def _number_or_auto(value: Any) -> Any:
    if isinstance(value, str) and value != "auto" and not value.isdecimal():
        raise ValueError(f"'{value}' is not allowed (allowed: auto, or a whole number)")
    return value


def _bounds_a_metric(text: str) -> str:
    Constraint.parse(text)
    return text


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _lying_at(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _found(spec: PretrainedSpec) -> PretrainedSpec:
    if spec.fingerprint is not None:  # read back from a study
        return spec
    try:
        return resolved(spec)
    except CspbenchError as error:
        raise ValueError(str(error)) from None


Name = Annotated[str, AfterValidator(_names_a_folder)]
Device = Annotated[str, AfterValidator(_known_device)]
TrialsPerGpu = Annotated[Annotated[int, Field(ge=1, le=64)] | Literal["auto"] | None, BeforeValidator(_number_or_auto)]
Bound = Annotated[str, AfterValidator(_bounds_a_metric)]
Distinct = AfterValidator(_all_different)
BareName = BeforeValidator(_named)
"""A mapping with a name, for which the name alone may be written."""
Pretrained = Annotated[PretrainedSpec, BeforeValidator(_lying_at), AfterValidator(_found)]
"""A recogniser, for which its path or name alone may be written."""


class DenseTraining(TrainSpec):
    """Training of the dense recogniser that all trials start from."""

    seed: Seed | Literal["each"] = Field(
        0, description="one dense recogniser for all trials; `each` trains one for every seed of `seeds`"
    )
    pretrained: Pretrained | None = Field(
        None, description="a trained recogniser, taken in place of training one; the other keys are then left out"
    )

    @property
    def training(self) -> TrainSpec:
        """The run alone."""
        return TrainSpec.model_validate(self.model_dump(exclude={"seed", "pretrained"}))


class MethodEntry(Settings):
    """A pruning method to compare; a bare name is enough.

    A hyperparameter is a fixed value, a list of choices or a range ``{low, high, log}``. Those not named keep their
    default, or with `search` are searched over the range the method declares. In the mode `fixed` a method may be
    listed several times, with other hyperparameters and with sparsities of its own.
    """

    name: str
    params: dict[str, Any] = Field(default_factory=dict)
    search: bool = False
    sparsity: Annotated[tuple[Fraction, ...], Distinct, BeforeValidator(_one_or_more)] | None = Field(
        None, min_length=1, description="in place of those of the file; mode `fixed` only"
    )


class SparsityAxis(Settings):
    """Sparsities to test: a list, or a range ``{low, high}`` for a sampler to draw from."""

    values: tuple[Fraction, ...] | None = None
    low: Fraction | None = None
    high: Fraction | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> SparsityAxis:
        if self.values is not None:
            if not self.values:
                raise ValueError("an empty list leaves nothing to test")
            if len(set(self.values)) < len(self.values):
                raise ValueError("the same sparsity is listed twice")
        elif self.low is None or self.high is None or not self.low < self.high:
            raise ValueError("must be a list of sparsities, or a range {low, high} with low less than high")
        return self


class SamplerSpec(Settings):
    """Sampler of settings: `grid` runs all combinations, the others are Optuna's.

    `tpe` and `gp` (Gaussian processes, for few trials) learn from results, `nsga2` and `nsga3` only from 50 trials on.
    `qmc` covers the space evenly, `random` at random.
    """

    name: Literal["grid", "random", "qmc", "tpe", "gp", "nsga2", "nsga3"] = "grid"
    seed: int = Field(0, ge=0)


class EarlyStopping(Settings):
    """Rule by which trials that do worse than others of their cell are stopped at the end of an epoch.

    `median` stops a trial that is worse than the median of earlier ones at the same epoch. `halving` lets the best of
    each `factor` trials go on at epoch `warmup`, at `factor` times that, and so on (asynchronous successive halving, Li
    et al. 2018, arXiv:1810.05934). `hyperband` varies how early that begins (Li et al. 2016, arXiv:1603.06560).
    """

    name: Literal["median", "halving", "hyperband"] = "median"
    metric: Literal["dev_loss", "dev_wer"] = Field("dev_loss", description="what is compared")
    warmup: int = Field(1, ge=1, description="epochs that every trial runs; best until the last zeros have come")
    startup: int = Field(5, ge=1, description="trials of a cell that run to their end before `median` stops any")
    factor: int = Field(3, ge=2, description="of `halving` and `hyperband`")


class Recipe(Settings):
    """A corpus, the dense recogniser trained on it, and the run in which methods prune that.

    Features and model of a pretrained recogniser are its own; only `dropout` of the model may be given.
    """

    corpus: Annotated[CorpusSpec, BareName] = CorpusSpec()
    features: FeatureSpec = FeatureSpec()
    model: Annotated[ModelSpec, BareName] = ModelSpec()
    dense: DenseTraining = DenseTraining()
    prune: TrainSpec = Field(TrainSpec(), description="the run in which a method prunes")
    prunable: tuple[str, ...] = Field(("*",), min_length=1, description="glob patterns over names of weight matrices")

    @model_validator(mode="after")
    def _as_pretrained(self) -> Self:
        given = "features" in self.model_fields_set, not self.model.model_fields_set <= {"dropout"}
        if self.dense.pretrained is None or all(given):  # both are there in a file read back from a study
            return self
        model, features = recogniser_specs(self.dense.pretrained)
        if not given[0]:
            object.__setattr__(self, "features", features)
        if not given[1]:
            object.__setattr__(self, "model", model.model_copy(update={"dropout": self.model.dropout}))
        return self

    def dense_spec(self, corpus: CorpusSpec, seed: int) -> DenseSpec:
        """Return the dense recogniser that trials of a seed start from.

        Args:
            corpus: the corpus of the recipe, prepared: with its fingerprint.
            seed: of the trials.
        """
        return DenseSpec(
            corpus=corpus,
            features=self.features,
            model=with_options(self.model),
            training=self.dense.training,
            seed=seed if self.dense.seed == "each" else self.dense.seed,
            pretrained=self.dense.pretrained,
        )

    def trial_spec(
        self, corpus: CorpusSpec, method: MethodSpec, sparsity: float, seed: int, latency: LatencySpec
    ) -> TrialSpec:
        """Return the trial of a method.

        Args:
            corpus: the corpus of the recipe, prepared: with its fingerprint.
            method: with all its hyperparameters.
            sparsity: fraction of zeros among the prunable weights.
            seed: of the trial.
            latency: protocol of the measurement.
        """
        return TrialSpec(
            dense=self.dense_spec(corpus, seed),
            method=method,
            sparsity=sparsity,
            training=self.prune,
            prunable=self.prunable,
            latency=latency,
            seed=seed,
        )


def _listed(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {"values": [value]}
    if isinstance(value, list):
        return {"values": value}
    if not isinstance(value, (dict, SparsityAxis)):
        raise ValueError(f"must be a list of sparsities, or a range {{low, high}}, got {value!r}")
    return value


class TrialResources(Settings):
    """Place that a trial takes on a cluster of `executor: ray`."""

    cpus: float = Field(1, gt=0, description="processors; also the number of threads")
    gpus: float = Field(0, ge=0, description="GPUs; a fraction shares one")
    node: str | None = Field(
        None, description="class of nodes, a resource that `ray start --resources` named: latency is measured there"
    )


class SweepConfig(Recipe):
    """A whole sweep file."""

    name: Name = Field(description="names the study and its MLflow experiment")
    sparsity: Annotated[SparsityAxis, BeforeValidator(_listed)] = Field(description="absolute fraction of zeros")
    methods: tuple[Annotated[MethodEntry, BareName], ...] = Field(min_length=1)
    seeds: Annotated[tuple[Seed, ...], Distinct] = Field((0,), min_length=1, description="every setting runs once each")
    latency: LatencySpec = LatencySpec()
    mode: Literal["pareto", "cells", "fixed"] = Field(
        "pareto",
        description="`pareto`: one search over all that varies; `cells`: one for each method and sparsity, with equal "
        "budgets; `fixed`: every listed setting once, without a sampler",
    )
    sampler: Annotated[SamplerSpec, BareName] = SamplerSpec()
    objectives: Annotated[tuple[Objective, ...], Distinct] = Field(
        ("wer",), min_length=1, description="what Optuna minimises; wer is of dev"
    )
    constraints: Annotated[tuple[Bound, ...], Distinct] = Field(
        (),
        description="bounds on metrics, such as `latency_ms <= 5` or `size_mb <= 2`: the sampler keeps to them",
    )
    trials: int | None = Field(
        None, ge=1, le=1_000_000, description="settings to run (of each cell), each once a seed; unset: the whole grid"
    )
    early_stopping: Annotated[EarlyStopping, BareName] | None = Field(None, description="mode `cells` only")
    warm_start: str | None = Field(
        None, min_length=1, description="an earlier study, or a CSV file of results: told to the sampler, never shown"
    )
    control: bool = Field(
        True, description="also train the dense recogniser on, with the budget of `prune` and without pruning"
    )
    workers: int = Field(1, ge=1, le=1024, description="processes on this machine")
    trials_per_gpu: TrialsPerGpu = Field(
        None, description="processes that share a GPU, in place of `workers` where there is one; `auto` by its memory"
    )
    executor: Literal["local", "ray"] = Field(
        "local", description="processes on this machine, or tasks of a Ray cluster"
    )
    resources: TrialResources = TrialResources()
    trial_timeout: float | None = Field(None, gt=0, description="seconds after which a running trial fails")
    max_failures: int | None = Field(None, ge=1, description="failed trials after which the sweep stops")
    device: Device = "auto"
    system_metrics: float | None = Field(
        None,
        ge=0.1,
        le=3600,
        description="seconds between samples of processor, memory and GPU while a trial runs, for MLflow; unset: none",
    )

    def bounds(self) -> list[Constraint]:
        """Return the constraints, read."""
        return [Constraint.parse(text) for text in self.constraints]
