"""Values nobody should write: every field of a sweep file, a corpus and a method takes or refuses them in words."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from cspbench.config import Override, SweepConfig, load_config
from cspbench.corpora import corpora
from cspbench.errors import ConfigError
from cspbench.pruning.registry import methods

NOT_NUMBERS = [float("inf"), float("-inf"), float("nan"), "inf", 10**30, -(10**30), True]
HOSTILE = [*NOT_NUMBERS, 0, -1, 1e-300, "", "a\0b", "\u200b", "x" * 5000, None, [], [[]], {}, {"a": {"b": []}}, [None]]
FEW = [
    float("inf"),
    10**30,
    True,
    "a\0b",
    None,
    [[]],
    {"a": {}},
    {"low": 1, "high": 0},
    {"low": 0, "high": 1, "log": True},
]
GOOD = {"name": "a", "sparsity": [0.5], "methods": ["magnitude"]}


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Models inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models(part)


def fields(model: type[BaseModel], at: tuple[str, ...] = ()) -> Iterator[tuple[type[BaseModel], tuple[str, ...]]]:
    """Every field below a model, with the model it belongs to and its location."""
    for name, field in model.model_fields.items():
        yield model, (*at, name)
        for inner in models(field.annotation):
            yield from fields(inner, (*at, name))


def is_number(annotation: Any) -> bool:
    parts = typing.get_args(annotation)
    return annotation in (int, float) or (
        typing.get_origin(annotation) is not typing.Literal and any(map(is_number, parts))
    )


OPTIONS = [corpora.get(name).Options for name in corpora.names()]
PARAMS = [methods.get(name).Params for name in methods.names()]
NUMBERS = sorted(
    {
        (owner, at[-1])
        for model in (SweepConfig, *OPTIONS, *PARAMS)
        for owner, at in fields(model)
        if is_number(owner.model_fields[at[-1]].annotation)
    },
    key=str,
)


def test_every_number_is_finite_bounded_and_no_truth_value() -> None:
    assert len(NUMBERS) > 80
    for model, name in NUMBERS:
        kind = typing.get_origin(model.model_fields[name].annotation)
        for value in NOT_NUMBERS:
            with pytest.raises(ValidationError):
                model.model_validate({name: {"a": value} if kind is dict else [value] if kind is tuple else value})


def refusal(file: Path, place: tuple[str | int, ...], value: Any) -> str:
    """Return what is said against a value; nothing if it is taken."""
    try:
        load_config(file, [Override(place, value, "--set")])
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("at", sorted({at for _, at in fields(SweepConfig)}), ids=".".join)
def test_every_key_takes_or_refuses_in_words(tmp_path: Path, at: tuple[str, ...]) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(GOOD))
    place = ("methods", 0, *at[1:]) if at[0] == "methods" and len(at) > 1 else at
    said = [refusal(file, place, value) for value in HOSTILE]
    assert any(said)
    assert all(len(text) < 2000 for text in said)


@pytest.mark.parametrize("name", methods.names())
def test_every_hyperparameter_takes_or_refuses_in_words(tmp_path: Path, name: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump({**GOOD, "methods": [name]}))
    for key in methods.get(name).Params.model_fields:
        said = [refusal(file, ("methods", 0), {"name": name, "params": {key: value}}) for value in FEW]
        assert any(said)
        assert all(len(text) < 4000 for text in said)
