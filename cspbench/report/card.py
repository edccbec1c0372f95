"""Model card: data, errors, sparsity, latency, licence and origin of a recogniser, as a Markdown file beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from cspbench.errors import FileAccessError
from cspbench.report.markdown import markdown_rows
from cspbench.result import LatencyReport, TrialResult, WordErrors
from cspbench.runtime.packing import PackedModel
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


def write_card(path: Path, packed: PackedModel, files: Iterable[Path], facts: CardFacts, licence: str | None) -> None:
    """Write the card of a recogniser.

    Args:
        path: the file to write.
        packed: the recogniser.
        files: what was exported.
        facts: what was measured of it.
        licence: in words, or its SPDX identifier; None where it is not known.
    """
    parts = {
        "Data": _data(packed),
        "Word errors": _errors(facts.errors),
        "Sparsity": _sparsity(packed),
        "Latency": _latency(facts.latency),
        "Files": markdown_rows([{"file": file.name, "bytes": f"{file.stat().st_size:,}"} for file in files]),
        "Licence": licence or NO_LICENCE,
        "Origin": _named("what", sorted(packed.header.provenance.items())),
    }
    text = "\n\n".join([f"# {path.name.removesuffix('.card.md')}", _summary(packed)])
    write_atomic(path, "".join([text, *(f"\n\n## {title}\n\n{part}" for title, part in parts.items()), "\n"]).encode())


def _summary(packed: PackedModel) -> str:
    shape, features = packed.header.model.shape, packed.header.features
    weights = sum(m.rows * m.columns for m in packed.matrices.values())
    return (
        f"A streaming RNN transducer: {shape.encoder_layers} LSTM layers of {shape.encoder_width} in the encoder, "
        f"{shape.prediction_layers} of {shape.prediction_width} in the prediction network, {shape.units} output units. "
        f"{weights:,} weights in matrices, {packed.sparsity:.2%} of them zero. It takes speech of "
        f"{packed.header.sample_rate:,} Hz in steps of {features.hop_ms * features.stack:g} ms."
    )


def _data(packed: PackedModel) -> str:
    header = packed.header
    corpus = header.provenance.get("corpus", "not known")
    kind = "synthetic speech: errors on people's speech are other than these" if header.synthetic else "recorded speech"
    return f"Corpus: {corpus} ({kind})."


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


def _sparsity(packed: PackedModel) -> str:
    rows = [
        {"matrix": name, "shape": f"{m.rows} x {m.columns}", "zeros": f"{1 - m.nonzeros / (m.rows * m.columns):.2%}"}
        for name, m in packed.matrices.items()
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
