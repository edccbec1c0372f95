"""Resolved sweep files: the corpus found and fingerprinted, every setting turned into full specs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cspbench.config import SweepConfig
from cspbench.corpora import Corpus, load_corpus, parse_options
from cspbench.corpora.features import check_features
from cspbench.spec import CorpusSpec, DenseSpec, MethodSpec, TrialSpec, canonical, newer_fields
from cspbench.store import Store
from cspbench.sweep.space import Setting, Space, space_of

CONTROL = "control"
"""Method that prunes nothing."""


@dataclass(frozen=True)
class Plan:
    """A sweep file with its corpus prepared.

    Attributes:
        config: the checked sweep file.
        corpus: the corpus with all options, an absolute path and its fingerprint.
        synthetic: true if any of its audio was made by a machine.
        space: the settings that may be tried.
    """

    config: SweepConfig
    corpus: CorpusSpec
    synthetic: bool
    space: Space

    def dense_specs(self) -> list[DenseSpec]:
        """Return the dense recognisers that trials start from: one, or one for each seed."""
        specs = [self.config.dense_spec(self.corpus, seed) for seed in self.config.seeds]
        return list({spec.id: spec for spec in specs}.values())

    def specs(self, setting: Setting) -> list[TrialSpec]:
        """Return the trials of a setting, one for each seed: the study is told their mean."""
        config = self.config
        return [
            config.trial_spec(self.corpus, setting.method, setting.sparsity, seed, config.latency)
            for seed in config.seeds
        ]

    def control_specs(self) -> list[TrialSpec]:
        """Return the controls, one for each seed: the dense recogniser trained on by the same recipe, not pruned."""
        control = Setting(0.0, MethodSpec(name=CONTROL))
        return self.specs(control) if self.config.control else []

    def grid_specs(self) -> list[TrialSpec]:
        """Return the controls and all trials of a grid, at most those of `trials` settings."""
        points = [(space, p) for space in self.searches().values() for p in space.grid()[: self.config.trials]]
        return [*self.control_specs(), *(s for space, point in points for s in self.specs(space.setting(point)))]

    def searches(self) -> dict[str, Space]:
        """Return the space of each search by the name of its Optuna study: one, or one a cell."""
        return search_spaces(self.config, self.space)

    @property
    def version(self) -> int:
        """Schema version of the specs."""
        return self.dense_specs()[0].version

    def identity(self, version: int | None = None) -> dict[str, Any]:
        """Return everything results depend on, as JSON: a study is resumed only under the same identity.

        Args:
            version: schema version under which to describe it; that of the specs if not given.
        """
        config, version = self.config, version or self.version
        newer = {
            "constraints": sorted(bound.identity() for bound in config.bounds()),
            "mode": "cells" if config.mode == "cells" else None,
            "early_stopping": config.early_stopping and config.early_stopping.model_dump(mode="json"),
        }
        return {
            "dense": {spec.id_under(version): _dense_identity(spec, version) for spec in self.dense_specs()},
            "corpus": self.corpus.identity(),
            "prune": canonical(config.prune, version),
            "prunable": list(config.prunable),
            "latency": canonical(config.latency, version),
            "seeds": list(config.seeds),
            "space": self.space.describe(),
            "sampler": config.sampler.model_dump(mode="json"),
            "objectives": list(config.objectives),
            **{name: value for name, value in newer.items() if value},  # older studies have none of these keys
        }

    def newer_fields(self, version: int) -> list[str]:
        """Return the fields that a person has set although a schema version does not have them."""
        parts = (*self.dense_specs(), self.config.prune, self.config.latency)
        return sorted({name for part in parts for name in newer_fields(part, version, chosen=True)})


def search_spaces(config: SweepConfig, space: Space) -> dict[str, Space]:
    """Return the space of each search of a sweep by the name of its Optuna study: one, or one a cell."""
    if config.mode != "cells":
        return {config.name: space}
    return {f"{config.name}/{cell}": part for cell, part in space.cells().items()}


def _dense_identity(spec: DenseSpec, version: int) -> dict[str, Any]:
    values = canonical(spec, version)
    return {name: value for name, value in values.items() if name not in ("corpus", "version")}


def resolve(config: SweepConfig, store: Store, note: Callable[[str], None]) -> Plan:
    """Prepare and check the corpus of a sweep.

    Args:
        config: the checked sweep file.
        store: keeps audio that has to be made.
        note: receives plain lines during long preparation.

    Raises:
        CorpusError: audio or transcripts that cannot be used.
        ConfigError: features that cannot be computed at the corpus's sample rate.
    """
    corpus, spec = prepare_corpus(config.corpus, store, note)
    check_features(config.features, corpus.sample_rate)
    return Plan(config, spec, corpus.synthetic, space_of(config))


def prepare_corpus(spec: CorpusSpec, store: Store, note: Callable[[str], None]) -> tuple[Corpus, CorpusSpec]:
    """Load a corpus; its spec comes back with all options, an absolute path and the fingerprint."""
    options = parse_options(spec).model_dump(mode="json")
    path = str(Path(spec.path).expanduser().absolute()) if spec.path is not None else None
    spec = spec.model_copy(update={"options": options, "path": path})
    corpus = load_corpus(spec, store.corpora, note)
    return corpus, spec.model_copy(update={"fingerprint": corpus.fingerprint()})
