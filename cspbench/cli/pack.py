"""``cspbench pack``: a recogniser as one file without its zeros."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cspbench.cli.options import AsJson, check_output, messages, output, print_rows

if TYPE_CHECKING:
    from cspbench.runtime.packing import PackedModel

Model = Annotated[
    Path, typer.Argument(help="A packed file, or the folder of a trial or dense recogniser (runs/trials/ID).")
]
Choices = list[str] | None


def pack(
    model: Annotated[Path, typer.Argument(help="The folder of a trial or dense recogniser (runs/trials/ID).")],
    out: Annotated[Path, typer.Argument(help="The file to write; by custom NAME.packed.safetensors.", dir_okay=False)],
    format: Annotated[
        Choices,
        typer.Option(
            "--format",
            help="auto (fastest here, measured), smallest, dense, bitmap, bitmap:4, csr16, csr8, window, window:64x16, "
            "block:4x4 or nm:2:4; PATTERN=FORMAT for some matrices; may be repeated.",
        ),
    ] = None,
    values: Annotated[
        Choices,
        typer.Option(
            "--values",
            help="fp32, fp16, bf16, int8, or int4 (for windows; other formats take int8); PATTERN=VALUES for some "
            "matrices.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a recogniser as one file without its zeros, and print its size beside other forms.

    Examples: `cspbench pack runs/trials/ID model.packed.safetensors`,
    `cspbench pack runs/trials/ID small.packed.safetensors --format smallest --values int8`
    """
    from cspbench.errors import ConfigError
    from cspbench.runtime.packing import open_model
    from cspbench.runtime.packing.report import matrix_rows, size_rows

    if model.is_file():
        raise ConfigError(f"{model} is a file; give the folder of the recogniser it was packed from")
    check_output(out)
    with messages().status("packing") as status:
        options = {"format": choice(format, "auto"), "values": choice(values, "fp32")}
        packed = open_model(model, **options, progress=status.update)
        packed.save(out)
        rows, sizes = matrix_rows(packed), size_rows(packed, before=open_model(model, format="dense"))
    if as_json:
        typer.echo(json.dumps({"file": str(out), **_about(packed), "matrices": rows, "sizes": sizes}, indent=2))
        return
    print_rows([_readable(row) for row in rows])
    print_rows([_readable(row) for row in sizes])
    output().print(f"{out}: {packed.sparsity:.2%} zeros", soft_wrap=True)


def choice(words: Choices, default: str) -> str | dict[str, str]:
    """One word, or patterns with their words: those given later go first, as they were meant to change the earlier."""
    if not words:
        return default
    patterns = [word.rpartition("=") for word in words]
    return {pattern or ".*": word for pattern, _, word in reversed(patterns)}


def _about(packed: PackedModel) -> dict[str, Any]:
    header = packed.header
    return {"zeros": packed.sparsity, "synthetic": header.synthetic, "provenance": header.provenance}


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    shown = dict(row)
    for key in ("zeros", "over_bound"):
        if isinstance(row.get(key), float):
            shown[key] = f"{row[key]:.1%}"
    for key in ("padding", "bytes_per_weight", "bytes_per_nonzero", "compression"):
        if isinstance(row.get(key), float):
            shown[key] = f"{row[key]:.3f}"
    if "shape" in row:
        shown["shape"] = " x ".join(map(str, row["shape"]))
    return {key.replace("_", " "): value for key, value in shown.items()}
