"""Contents of a comparison file: which methods meet on which corpora, at which budgets, and how settings are tuned."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from cspbench.config.schema import (
    BareName,
    Device,
    Distinct,
    Fraction,
    MethodEntry,
    Name,
    Recipe,
    Seed,
    TrialsPerGpu,
)
from cspbench.hyper import Settings
from cspbench.pruning.registry import methods
from cspbench.spec import LatencySpec, TrainSpec

Seeds = Annotated[tuple[Seed, ...], Distinct]
Sparsities = Annotated[tuple[Fraction, ...], Distinct]
Times = Annotated[float, Field(gt=0)]

BROKEN = "?"
"""Label of a corpus that could not be read, and is reported as such."""

CONTROL = "control"
"""Label of the control: the dense model trained on by the same recipe, with nothing pruned."""


class Folds(Settings):
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
        """Fold whose speakers are dev while those of `fold` are test."""
        return (fold + 1) % self.of


class ComparedCorpus(Recipe):
    """A recipe that methods are compared by: a corpus, its dense recogniser, and the run in which methods prune that.

    `prune` is the run of budget 1; a larger budget multiplies its epochs. `folds` divides the speakers anew.
    """

    label: str = Field("", description="names it in tables; unset: the name of its corpus")
    folds: Folds | None = None
    cluster: Literal["utterance", "speaker"] = Field(
        "utterance",
        description="smallest unit of independent test speech: speaker, where a recording is in several utterances",
    )

    @property
    def key(self) -> str:
        """Its label in tables."""
        return self.label or self.corpus.name

    def training(
        self, budget: float, learning_rate: float = 1.0, changes: Mapping[str, Any] = MappingProxyType({})
    ) -> TrainSpec:
        """Pruning run of a budget.

        The number of dev evaluations is that of budget 1, so that a longer run does not pay for more of them.

        Args:
            budget: multiple of the epochs.
            learning_rate: factor of the learning rate.
            changes: what an entry of the open division sets otherwise, before the budget multiplies it.
        """
        base = TrainSpec.model_validate(self.prune.model_dump() | dict(changes))
        scaled = {
            "epochs": max(1, round(budget * base.epochs)),
            "evaluate_every": max(1, round(budget * base.evaluate_every)),
            "learning_rate": learning_rate * base.learning_rate,
        }
        return base.model_copy(update=scaled)

    def with_run(self, training: TrainSpec, dense_seed: int) -> ComparedCorpus:
        """The same recipe with another pruning run, and with the dense recogniser of one seed."""
        dense = self.dense.model_copy(update={"seed": dense_seed})
        return self.model_copy(update={"prune": training, "dense": dense})


class ComparedMethod(Settings):
    """A row of the tables: a method with some of its hyperparameters fixed and some tuned.

    `params` are values; `tune` holds axes as a sweep file's (lists of choices, ranges), or true for those that the
    method declares. What is in neither keeps its default. A tuned method also tries the axes of `Tuning.every`.
    """

    name: str
    label: str = Field("", description="names it in tables; unset: the name of the method")
    params: dict[str, Any] = Field(default_factory=dict)
    tune: dict[str, Any] | bool = False
    division: Literal["closed", "open"] = Field(
        "closed", description="closed: the corpus's pruning run; open: may change it by `training`"
    )
    training: dict[str, Any] = Field(
        default_factory=dict, description="changes to the pruning run, e.g. {epochs: 80}; open division only"
    )

    @property
    def key(self) -> str:
        """Its label in tables."""
        return self.label or self.name

    @property
    def tuned(self) -> bool:
        """True if its setting is chosen from several."""
        return self.tune is not False


class Tuning(Settings):
    """Rules of tuning: every tuned method tries its default, then as many settings, dealt alike to all."""

    trials: int = Field(3, ge=1, description="settings tried for each tuned method, sparsity and budget")
    at: Sparsities = Field(min_length=1, description="sparsities; others take the setting of the nearest density")
    budgets: Annotated[tuple[Times, ...], Distinct] = Field(
        (1.0,), min_length=1, description="budgets; the others take the setting of that of the nearest ratio"
    )
    corpora: tuple[str, ...] | None = Field(None, description="labels; the settings are carried to the other corpora")
    folds: Seeds | None = Field(None, description="folds of corpora that have some")
    learning_rate: Annotated[tuple[Times, ...], Distinct] = Field(
        (1.0,), min_length=1, description="factors of the corpus's learning rate that every tuned method tries"
    )
    every: dict[str, Any] = Field(
        default_factory=dict, description="axes that every tuned method with these hyperparameters tries"
    )
    seed: Seed = 0


class Budget(Settings):
    """Training given to every method, in multiples of a corpus's pruning run, and a part of the plan run at it.

    Several entries may have the same budget: each adds its part, and a run that two parts ask for is run once.
    """

    times: Times = Field(description="multiple of the epochs of a corpus's pruning run")
    sparsity: Sparsities | None = Field(None, min_length=1, description="unset: those of the file")
    methods: tuple[str, ...] | None = Field(None, min_length=1, description="labels; unset: all methods")
    corpora: tuple[str, ...] | None = Field(None, min_length=1, description="labels; unset: all corpora")

    def includes(self, corpus: str, method: str) -> bool:
        """Return whether the runs of a method on a corpus belong to it, by their labels; those of the control do."""
        chosen = method == CONTROL or self.methods is None or method in self.methods
        return chosen and (self.corpora is None or corpus in self.corpora)


def _times(value: Any) -> Any:
    return {"times": value} if isinstance(value, (int, float)) and not isinstance(value, bool) else value


class ComparisonConfig(Settings):
    """A whole comparison file."""

    name: Name = Field(description="names the study and its MLflow experiment")
    corpora: tuple[ComparedCorpus, ...] = Field(min_length=1)
    sparsity: Sparsities = Field(min_length=1, description="absolute fractions of zeros, the most urgent first")
    budgets: tuple[Annotated[Budget, BeforeValidator(_times)], ...] = Field(
        (Budget(times=1.0),), min_length=1, description="the most urgent first; a number stands for {times: number}"
    )
    methods: tuple[Annotated[ComparedMethod, BareName], ...] = Field(min_length=1)
    control: bool = Field(True, description=f"add the row '{CONTROL}': the dense model trained on, nothing pruned")
    proposed: str = Field("csp", description="label of the method that all others are tested against")
    tuning: Tuning | None = None
    dense_seeds: Seeds | None = Field(
        None, min_length=1, description="a dense model a seed, each pruned with every one of `seeds`"
    )
    seeds: Seeds = Field((1, 2, 3), min_length=1, description="of the pruning runs: never that of the tuning")
    latency: LatencySpec = LatencySpec()
    workers: int = Field(1, ge=1, description="processes on this machine")
    trials_per_gpu: TrialsPerGpu = Field(
        None, description="processes that share a GPU, in place of `workers` where there is one; `auto` by its memory"
    )
    trial_timeout: float | None = Field(None, gt=0, description="seconds after which a running trial fails")
    device: Device = "auto"

    def tuned_corpora(self) -> list[ComparedCorpus]:
        """Corpora on which settings are tuned."""
        chosen = self.tuning.corpora if self.tuning is not None else ()
        return [entry for entry in self.corpora if chosen is None or entry.key in chosen]

    def replicates(self, entry: ComparedCorpus) -> list[tuple[int, int]]:
        """Pairs of dense seed and pruning seed that every method is run with on a corpus."""
        if self.dense_seeds is not None:
            return [(dense, seed) for dense in self.dense_seeds for seed in self.seeds]
        fixed = entry.dense.seed
        return [(seed if fixed == "each" else fixed, seed) for seed in self.seeds]

    def tuning_dense_seed(self, entry: ComparedCorpus, tuning: Tuning) -> int:
        """Seed of the dense model that settings are tuned on: the first of `dense_seeds`, if those are given."""
        if self.dense_seeds is not None:
            return self.dense_seeds[0]
        return tuning.seed if entry.dense.seed == "each" else entry.dense.seed

    def all_budgets(self) -> list[float]:
        """Budgets in the order of the file."""
        return list(dict.fromkeys(budget.times for budget in self.budgets))

    def all_sparsities(self) -> list[float]:
        """Sparsities of all budgets, those of the file first."""
        own = (sparsity for budget in self.budgets for sparsity in budget.sparsity or ())
        return list(dict.fromkeys((*self.sparsity, *own)))


def axes_entry(entry: ComparedMethod, tuning: Tuning | None = None) -> MethodEntry:
    """Entry of a sweep file that spans the same settings: what is fixed is a choice of one."""
    own = entry.tune if isinstance(entry.tune, dict) else {}
    fixed = {name: [value] for name, value in entry.params.items()}
    common: dict[str, Any] = {}
    if tuning is not None and entry.tuned and entry.name in methods.names():
        known = methods.get(entry.name).Params.model_fields
        common = {name: axis for name, axis in tuning.every.items() if name in known}
    return MethodEntry(name=entry.name, params={**common, **fixed, **own}, search=entry.tune is True)
