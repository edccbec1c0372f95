"""The header of a packed file, and the matrices and vectors that a model of its shape must hold. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from cspbench.hyper import Frozen
from cspbench.runtime.packing.layouts import LARGEST
from cspbench.spec import FeatureSpec, as_of

FORMAT_VERSION = 2
"""Version 1 had neither a floor nor a flush in its front end; it can be read. The numbers are those of the specs."""

Size = Annotated[int, Field(ge=1, le=LARGEST, strict=True)]


class MatrixHeader(Frozen):
    """A packed matrix without its arrays."""

    format: str
    values: str
    rows: Size
    columns: Size
    options: dict[str, int]
    nonzeros: Annotated[int, Field(ge=0, strict=True)]


class ShapeHeader(Frozen):
    """Sizes of the networks, as `cspbench.asr.recognisers.lstm_transducer.Shape` has them."""

    inputs: Size
    units: Size
    encoder_layers: Annotated[int, Field(ge=1, le=64, strict=True)]
    encoder_width: Size
    prediction_layers: Annotated[int, Field(ge=1, le=64, strict=True)]
    prediction_width: Size
    joint_width: Size


class ModelHeader(Frozen):
    """Configuration of a model, as `LSTMTransducer.from_config` takes it."""

    shape: ShapeHeader
    mels: Size


class PackedHeader(Frozen):
    """Everything about a packed model but its arrays.

    Attributes:
        format: what kind of file it is.
        version: of the format.
        model: shape of the networks.
        tokenizer: the state of the units, for `cspbench.asr.tokenizer.load_tokenizer`.
        features: the front end.
        sample_rate: of the audio it takes, Hz.
        synthetic: whether it was trained or measured on synthetic speech.
        provenance: where it comes from, as far as known: trial, method, sparsity, word error rate.
        matrices: the packed matrices by name.
        vectors: shape of all that is not packed (biases, embedding, statistics), float32, by name.
    """

    format: Literal["cspbench-packed"] = "cspbench-packed"
    version: Literal[1, 2] = 2
    model: ModelHeader
    tokenizer: dict[str, Any]
    features: FeatureSpec
    sample_rate: Annotated[int, Field(ge=1, le=10_000_000, strict=True)]
    synthetic: Annotated[bool, Field(strict=True)]
    provenance: dict[str, Any]
    matrices: dict[str, MatrixHeader]
    vectors: dict[str, list[Size]]


def parse_header(value: Mapping[str, Any]) -> PackedHeader:
    """Check a header for sense; ValueError in words if it makes none."""
    if value.get("format") != "cspbench-packed":
        raise ValueError("it is no packed model")
    version = value.get("version")
    if version not in (1, FORMAT_VERSION):
        raise ValueError(
            f"it has version {version!r} of the format, and this cspbench reads versions up to {FORMAT_VERSION}"
        )
    if isinstance(value.get("features"), Mapping):
        value = {**value, "features": as_of(FeatureSpec, value["features"], version)}
    try:
        header = PackedHeader.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"header: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    _check_shapes(header)
    return header


def _check_shapes(header: PackedHeader) -> None:
    shape = header.model.shape
    if header.features.mels != header.model.mels or shape.inputs != header.features.mels * header.features.stack:
        raise ValueError(f"{shape.inputs} inputs do not fit {header.features.mels} mels x {header.features.stack}")
    found = {name: (m.rows, m.columns) for name, m in header.matrices.items()}
    _same("matrix", found, matrix_shapes(shape))
    _same("vector", {name: tuple(s) for name, s in header.vectors.items()}, vector_shapes(header.model))


def _same(what: str, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]) -> None:
    if odd := sorted(set(found) ^ set(expected)):
        raise ValueError(f"{what} '{odd[0]}' is {'missing' if odd[0] in expected else 'none of the model'}")
    for name, size in expected.items():
        if found[name] != size:
            raise ValueError(f"{what} '{name}' is {found[name]}; a model of this shape has {size}")


def matrix_shapes(shape: Any) -> dict[str, tuple[int, int]]:
    """Rows and columns of every matrix. A layer's input and recurrent matrix are joined: a step is one product."""
    return {
        **_stack_shapes("encoder", shape.encoder_layers, shape.inputs, shape.encoder_width),
        **_stack_shapes("prediction", shape.prediction_layers, shape.prediction_width, shape.prediction_width),
        "joint_encoder": (shape.joint_width, shape.encoder_width),
        "joint_prediction": (shape.joint_width, shape.prediction_width),
        "joint_output": (shape.units, shape.joint_width),
    }


def _stack_shapes(name: str, layers: int, inputs: int, width: int) -> dict[str, tuple[int, int]]:
    return {f"{name}.layers.{i}": (4 * width, (width if i else inputs) + width) for i in range(layers)}


def vector_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """Shapes of what is not packed, by the names the LSTMTransducer has for it."""
    shape = model.shape
    biases = {
        f"{stack}.layers.{i}.bias_{kind}_l0": (4 * width,)
        for stack, layers, width in (
            ("encoder", shape.encoder_layers, shape.encoder_width),
            ("prediction", shape.prediction_layers, shape.prediction_width),
        )
        for i in range(layers)
        for kind in ("ih", "hh")
    }
    return {
        **biases,
        "embedding.weight": (shape.units, shape.prediction_width),
        "joint_encoder.bias": (shape.joint_width,),
        "joint_output.bias": (shape.units,),
        "feature_mean": (model.mels,),
        "feature_scale": (model.mels,),
    }
