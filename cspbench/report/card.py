"""Model card: data, errors, sparsity, latency, licence and origin of a recogniser, as a Markdown file beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from cspbench.asr.recognisers.lstm_transducer import LSTMTransducer
from cspbench.asr.speech_model import SpeechModel, prunable_weights
from cspbench.asr.trained import TrainedModel
from cspbench.errors import FileAccessError
from cspbench.pruning.moments import layer_sparsity, overall_sparsity
from cspbench.report.markdown import markdown_rows
from cspbench.result import LatencyReport, TrialResult, WordErrors
from cspbench.store import ModelFolder, read_object, write_atomic

UNKNOWN = "Not known: there is no result of a trial beside the model that was exported."
NO_LICENCE = (
    "Not stated. The terms of the corpus apply to what was learnt from it; ask whoever trained the recogniser before "
    "you use or publish it."
)


@dataclass(frozen=True)
class CardFacts:
    """Measurements of a recogniser.

    Attributes:
        errors: word errors by what was decoded, e.g. ``test``.
        latency: of the weights as the trial packed them; None where it was not measured.
    """

    errors: Mapping[str, WordErrors] = field(default_factory=dict)
    latency: LatencyReport | None = None


def facts_of(model: Path) -> CardFacts:
    """Read what was measured of the recogniser in a folder; nothing is known of a packed file.

    Raises:
        FileAccessError: the folder's result is damaged.
    """
    path = ModelFolder(model).result
    if not path.is_file():
        return CardFacts()
    found = read_object(path)
    try:
        if "trial_id" not in found:
            return CardFacts({split: WordErrors.model_validate(found[split]) for split in ("dev", "test")})
        result = TrialResult.model_validate(found)
    except (KeyError, ValidationError) as error:
        raise FileAccessError(f"{path} is no result that this cspbench can read: {error}") from error
    errors = {
        "dev": result.dev,
        "test": result.test,
        "test, weights in int8": result.int8_test,
        "test, before pruning": result.dense_test,
    }
    return CardFacts({name: found for name, found in errors.items() if found is not None}, result.latency)


def write_card(
    path: Path,
    title: str,
    trained: TrainedModel,
    files: Iterable[Path],
    facts: CardFacts,
    *,
    licence: str | None = None,
    use: str | None = None,
) -> None:
    """Write the card of a recogniser.

    Args:
        path: the file to write.
        title: name of the recogniser.
        trained: the recogniser.
        files: what was exported.
        facts: what was measured of it.
        licence: in words, or its SPDX identifier; None where it is not known.
        use: Markdown that says how the files are loaded.
    """
    weights = prunable_weights(trained.model)
    parts = {
        "Use": use,
        "Data": _data(trained.note),
        "Word errors": _errors(facts.errors),
        "Sparsity": _sparsity(weights),
        "Latency": _latency(facts.latency),
        "Files": markdown_rows([{"file": file.name, "bytes": f"{file.stat().st_size:,}"} for file in files]),
        "Licence": licence or NO_LICENCE,
        "Origin": _named("what", sorted(trained.note.items())),
    }
    sections = [f"\n\n## {heading}\n\n{part}" for heading, part in parts.items() if part is not None]
    write_atomic(path, "".join([f"# {title}\n\n", _summary(trained, weights), *sections, "\n"]).encode())


def _summary(trained: TrainedModel, weights: Mapping[str, Tensor]) -> str:
    name, sizes = _network(trained.model)
    listed = ", ".join(f"{key.replace('_', ' ')} {size}" for key, size in sizes.items()) or "its own"
    features = trained.features
    cells = sum(weight.numel() for weight in weights.values())
    return (
        f"`{name}`: {trained.model.summary}. Sizes: {listed}. It has {trained.tokenizer.size} output units. "
        f"Its matrices have {cells:,} weights, {overall_sparsity(weights):.2%} of them zero. "
        f"It takes speech of {trained.sample_rate:,} Hz in steps of {features.hop_ms * features.stack:g} ms."
    )


def _network(model: SpeechModel) -> tuple[str, dict[str, int]]:
    """Registered name of a recogniser, and its sizes by name."""
    if isinstance(model, LSTMTransducer):
        return "lstm_transducer", asdict(model.shape)
    assert model.spec is not None, "build_model sets it"
    return model.spec.name, model.sizes(model.spec) if model.presets else {}


def _data(note: Mapping[str, object]) -> str:
    kind = "recorded speech"
    if note.get("synthetic_speech"):
        kind = "synthetic speech: errors on people's speech are other than these"
    return f"Corpus: {note.get('corpus', 'not known')} ({kind})."


def _errors(errors: Mapping[str, WordErrors]) -> str:
    if not errors:
        return UNKNOWN
    rows = [
        {
            "decoded": name,
            "WER": f"{e.wer:.2%}",
            "95 % interval": f"{e.low:.2%} to {e.high:.2%}",
            "words": f"{e.words:,}",
            "utterances": f"{e.utterances:,}",
        }
        for name, e in errors.items()
    ]
    return markdown_rows(rows)


def _sparsity(weights: Mapping[str, Tensor]) -> str:
    rows = [
        {"matrix": name, "shape": " x ".join(map(str, weights[name].shape)), "zeros": f"{zeros:.2%}"}
        for name, zeros in layer_sparsity(weights).items()
    ]
    return markdown_rows(rows)


def _latency(report: LatencyReport | None) -> str:
    if report is None:
        return UNKNOWN
    engines = {"packed": report.packed, "before pruning": report.dense}
    rows = [
        {
            "weights": name,
            "median, ms a step": f"{e.median_ms:.4g}",
            "95th percentile, ms": f"{e.p95_ms:.4g}",
            "real-time factor": f"{e.rtf:.4g}",
            "engine": e.engine or "",
        }
        for name, e in engines.items()
    ]
    lines = [markdown_rows(rows)]
    if (ratio := report.ratios.get("dense/packed")) is not None:
        lines.append(
            f"Dense over packed: {ratio.value:.2f} times ({ratio.low:.2f} to {ratio.high:.2f}), {ratio.verdict}."
        )
    if report.noise is not None and not report.noise.conclusive:
        lines.append(f"The measurement was disturbed: {'; '.join(report.noise.reasons)}.")
    lines.append("These are figures of cspbench's own runtime, not of the exported files.")
    lines.append(_named("protocol", report.protocol.items()))
    return "\n\n".join(lines)


def _named(what: str, values: Iterable[tuple[str, object]]) -> str:
    return markdown_rows([{what: name, "value": value} for name, value in values])
