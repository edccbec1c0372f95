from __future__ import annotations

import pytest
from pydantic import ValidationError

from cspbench.errors import ConfigError
from cspbench.pruning import describe_methods
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
    assert (options["recovery"].allowed, options["recovery"].search) == ("htp, iht, ista, fista", "all")
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
