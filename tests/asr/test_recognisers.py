"""The registry of recognisers: how a sweep file names one, and what that changes in a trial's identity."""

from __future__ import annotations

import pytest

from cspbench.asr.model import Transducer
from cspbench.asr.recognisers import build_model, prunable_shapes, recognisers
from cspbench.errors import ConfigError
from cspbench.spec import DenseSpec, FeatureSpec, ModelSpec

UNITS = 9


def test_the_default_recogniser_is_no_part_of_the_identity() -> None:
    """Ids of results from before there were others: `name` and `options` with their defaults are left out."""
    plain, named = DenseSpec(), DenseSpec(model=ModelSpec(name="lstm_transducer", options={}))
    assert plain.id == named.id == "c2c0f539e0238db4"
    assert isinstance(build_model(plain.model, plain.features, UNITS), Transducer)


def test_an_unknown_recogniser_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown recogniser 'lstm_transduce'; did you mean 'lstm_transducer'"):
        build_model(ModelSpec(name="lstm_transduce"), FeatureSpec(), UNITS)


@pytest.mark.parametrize("name", recognisers.names())
def test_every_recogniser_describes_itself_and_makes_no_weights_to_be_checked(name: str) -> None:
    kind = recognisers.get(name)
    assert kind.summary
    assert kind.source
    shapes = prunable_shapes(ModelSpec(name=name), FeatureSpec(), UNITS)
    assert min(min(shape) for shape in shapes.values()) > 1
