from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from cspbench.errors import ConfigError
from cspbench.pruning import PruningContext, create, describe_methods
from cspbench.pruning.registry import methods


def test_the_built_in_methods_are_described() -> None:
    described = {method.name: method for method in describe_methods()}
    assert {"csp", "l1", "lottery", "magnitude", "movement", "random", "rigl", "set", "snip"} <= set(described)
    for method in described.values():
        assert method.summary
        assert "arXiv" in method.source
        for option in method.options:
            assert option.description, (method.name, option.name)


def test_a_description_is_read_from_the_declaration() -> None:
    options = {o.name: o for m in describe_methods() if m.name == "csp" for o in m.options}
    damping = options["damping"]
    assert (damping.kind, damping.default, damping.allowed) == ("float", 0.02, ">= 0, <= 1")
    assert damping.search == "0.005 .. 0.06 (log)"
    assert (options["allocation"].allowed, options["allocation"].search) == ("global, uniform, erk, dual", "all")
    density = options["density"]
    assert (density.kind, density.default, density.allowed, density.search) == ("mapping to float", {}, "> 0", "")


@pytest.mark.parametrize("name", methods.names())
def test_all_of_every_search_range_is_allowed(name: str) -> None:
    params = methods.get(name).Params
    for field, search in params.search_space().items():
        for value in search.choices or (search.low, search.high):
            assert getattr(params(**{field: value}), field) == value
        with pytest.raises(ValidationError):
            params(**{field: object()})


def test_a_misspelt_method_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="did you mean 'magnitude'"):
        methods.get("magnitud")


def test_a_method_is_created_by_name() -> None:
    weight = torch.nn.Parameter(torch.tensor([[0.1, -5.0], [3.0, -0.2]]))
    method = create("magnitude", {"schedule": "one_shot"}, PruningContext({"w": weight}, 0.5, 10))
    method.start()
    assert weight.tolist() == [[0.0, -5.0], [3.0, 0.0]]
    again = create("magnitude", method.params, method.context)
    assert again.params == method.params


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("magnitud", {}, "did you mean 'magnitude'"),
        ("magnitude", {"intervall": 3}, "no hyperparameter 'intervall'; did you mean 'interval'"),
        ("magnitude", {"end": 7}, r"method 'magnitude': end: .*less than or equal to 1, got 7"),
        ("csp", {"damping": math.inf}, r"method 'csp': damping: .*finite"),
        ("magnitude", {"density": {"lstm": 2.0}}, "density needs allocation uniform or erk"),
    ],
)
def test_what_a_method_does_not_take_is_said_in_words(name: str, params: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        create(name, params, PruningContext({"w": torch.nn.Parameter(torch.ones(2, 2))}, 0.5, 10))
