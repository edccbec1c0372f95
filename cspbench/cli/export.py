"""``cspbench export``: a recogniser as files of other runtimes, with a model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cspbench.cli.options import AsJson, check_output, check_output_folder, messages, output, print_rows
from cspbench.cli.pack import Choices, Model, choice
from cspbench.errors import ConfigError

if TYPE_CHECKING:
    from cspbench.asr.trained import TrainedModel


class Runtime(StrEnum):
    """Runtimes that a recogniser can be exported to."""

    onnx = "onnx"
    sherpa_onnx = "sherpa-onnx"
    executorch = "executorch"


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        trained: the recogniser as it was exported.
        paths: the files by part.
        differences: of each network from torch, by part.
        card: the model card to write.
        title: of the card.
        use: section of the card on how the files are loaded.
    """

    trained: TrainedModel
    paths: Mapping[str, Path]
    differences: Mapping[str, float]
    card: Path
    title: str
    use: str | None = None


def export(
    model: Model,
    out: Annotated[
        Path,
        typer.Argument(
            help="For onnx NAME.onnx: written are NAME.encoder.onnx, NAME.prediction.onnx, NAME.joint.onnx and "
            "NAME.card.md. For sherpa-onnx a folder, of encoder.onnx, decoder.onnx, joiner.onnx, tokens.txt and "
            "README.md. For executorch NAME.pte, with NAME.card.md."
        ),
    ],
    to: Annotated[
        Runtime,
        typer.Option(
            "--to", help="All take lstm_transducer; sherpa-onnx and executorch take stateless_transducer, too."
        ),
    ] = Runtime.onnx,
    sparse: Annotated[
        bool,
        typer.Option(
            "--sparse",
            help="ONNX: sparse initialisers, for smaller files. onnxruntime makes them dense again, OpenVINO cannot "
            "read them.",
        ),
    ] = False,
    values: Annotated[
        Choices,
        typer.Option(
            "--values", help="onnx, for a folder: round weights to fp16, bf16, int8 or int4; the files hold fp32."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="Licence of the recogniser, for the model card, e.g. CC-BY-4.0.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a recogniser as files of another runtime, check them against torch, and write a model card.

    Examples: `cspbench export runs/trials/ID model.onnx`,
    `cspbench export model.packed.safetensors model.onnx --sparse`,
    `cspbench export runs/trials/ID model --to sherpa-onnx`,
    `cspbench export runs/trials/ID model.pte --to executorch`
    """
    from cspbench.asr.speech_model import prunable_weights
    from cspbench.pruning.moments import overall_sparsity
    from cspbench.report.card import facts_of, write_card

    done = {Runtime.onnx: _to_onnx, Runtime.sherpa_onnx: _to_sherpa, Runtime.executorch: _to_executorch}[to](
        model, out, sparse, values
    )
    trained, paths = done.trained, done.paths
    write_card(done.card, done.title, trained, paths.values(), facts_of(model), licence=licence, use=done.use)
    rows: list[dict[str, Any]] = [
        {"part": part, "file": str(path), "bytes": path.stat().st_size, "difference": done.differences.get(part)}
        for part, path in paths.items()
    ]
    if sparse and to is Runtime.onnx:
        messages().print(
            "note: OpenVINO cannot read sparse initialisers; for it, export without --sparse", soft_wrap=True
        )
    if as_json:
        about: dict[str, Any] = {
            "zeros": overall_sparsity(prunable_weights(trained.model)),
            "synthetic": bool(trained.note.get("synthetic_speech")),
            "provenance": dict(trained.note),
        }
        typer.echo(json.dumps({**about, "sparse": sparse, "parts": rows, "card": str(done.card)}, indent=2))
        return
    print_rows([{**row, "difference": _readable(row["difference"])} for row in rows])
    output().print(f"model card: {done.card}", soft_wrap=True)


def _to_onnx(model: Path, out: Path, sparse: bool, values: Choices) -> Exported:
    from cspbench.runtime.export.onnx_export import check_export, export_onnx
    from cspbench.runtime.packing import open_model

    if values and model.is_file():
        raise ConfigError(f"{model} is a packed file, whose values are what they are; --values is for folders")
    check_output(out)
    packed = open_model(model, format="smallest", values=choice(values, "fp32"))
    paths = export_onnx(packed, out, sparse=sparse)
    return Exported(packed.trained(), paths, check_export(packed, out), out.with_suffix(".card.md"), out.stem)


def _to_sherpa(model: Path, out: Path, sparse: bool, values: Choices) -> Exported:
    from cspbench.runtime.export.sherpa_export import check_sherpa, export_sherpa, usage

    _refuse_for_others(values=values)
    check_output_folder(out)
    trained = _opened(model)
    paths = export_sherpa(trained, out, sparse=sparse)
    card = out / "README.md"
    return Exported(trained, paths, check_sherpa(trained, out), card, out.resolve().name, usage(trained))


def _to_executorch(model: Path, out: Path, sparse: bool, values: Choices) -> Exported:
    from cspbench.runtime.export.executorch_export import check_executorch, export_executorch

    _refuse_for_others(values=values, sparse=sparse)
    check_output(out)
    trained = _opened(model)
    export_executorch(trained, out)
    differences = {"program": max(check_executorch(trained, out).values())}
    return Exported(trained, {"program": out}, differences, out.with_suffix(".card.md"), out.stem)


def _opened(model: Path) -> TrainedModel:
    """The recogniser of a folder or of a packed file."""
    from cspbench.runtime.packing import PackedModel, open_folder

    return open_folder(model) if model.is_dir() else PackedModel.load(model).trained()


def _refuse_for_others(**given: object) -> None:
    """Refuse options that are for other runtimes."""
    if wrong := next((name for name, value in given.items() if value), None):
        raise ConfigError(f"--{wrong} is for {'ONNX files' if wrong == 'sparse' else '--to onnx'}; leave it out")


def _readable(difference: float | None) -> str:
    return "" if difference is None else f"{difference:.1e}"
