"""Constraints as people write them, and by how much results miss them."""

from __future__ import annotations

import math
import re

import pytest

from cspbench.constraints import UNMEASURED, Constraint, violated


@pytest.mark.parametrize(
    ("text", "metric", "upper", "limit"),
    [
        ("latency_ms <= 5", "latency_ms", True, 5.0),
        ("latency_us<=800", "latency_ms", True, 0.8),
        ("latency_ms <= 800 us", "latency_ms", True, 0.8),
        ("latency_p95_s <= 1e-3", "latency_p95_ms", True, 1.0),
        ("size_mb <= 2", "size_bytes", True, 2e6),
        ("size_bytes <= 2 MB", "size_bytes", True, 2e6),
        ("smallest_kB <= 300", "smallest_bytes", True, 3e5),
        ("dev_wer <= 10 %", "dev_wer", True, 0.1),
        ("speedup >= 2x", "speedup", False, 2.0),
        ("train_min <= 5", "train_seconds", True, 300.0),
    ],
)
def test_units_come_with_the_number_or_with_the_name(text: str, metric: str, upper: bool, limit: float) -> None:
    constraint = Constraint.parse(text)
    assert (constraint.metric, constraint.upper) == (metric, upper)
    assert constraint.limit == pytest.approx(limit, rel=1e-12)


def test_equal_constraints_have_one_identity_however_written() -> None:
    texts = ("size_mb <= 2", "size_bytes <= 2 MB", "size_kb <= 2000", "size_bytes <= 2e6")
    assert {Constraint.parse(text).identity() for text in texts} == {"size_bytes <= 2000000"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("latency", "'latency' is no constraint: write such as latency_ms <= 5"),
        ("latency_ms < 5", "'<' is not allowed (allowed: <=, >=)"),
        ("latency_ms == 5", "'==' is not allowed (allowed: <=, >=)"),
        ("latncy_ms <= 5", "unknown metric 'latncy_ms'; did you mean 'latency_ms'?"),
        ("size_furlongs <= 5", "unknown metric 'size_furlongs'"),
        ("latency_ms <= 5 MB", "'MB' is no unit of latency_ms (allowed: us, µs, ms, s)"),
        ("latency_ms <= 1.2.3", "'1.2.3' is not a number"),
        ("latency_ms <= 1e999", "the bound must be a finite number"),
        ("test_wer <= 0.1", "'test_wer' is of the test set, which must not guide a search: use such as dev_wer"),
        ("wer <= 0.1", "'wer' is of the test set"),
        ("int8_wer <= 0.1", "'int8_wer' is of the test set"),
    ],
)
def test_other_forms_are_refused_in_words(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Constraint.parse(text)


def test_violations_are_relative_so_that_milliseconds_and_bytes_add_up() -> None:
    latency, size, gain = map(Constraint.parse, ("latency_ms <= 5", "size_mb <= 2", "speedup >= 2"))
    assert latency.violation(6.0) == pytest.approx(0.2)
    assert size.violation(2.4e6) == pytest.approx(0.2)
    assert gain.violation(1.6) == pytest.approx(0.2)
    assert latency.violation(5.0) == 0.0
    assert latency.violation(1.0) < 0
    assert latency.violation(None) == latency.violation(math.nan) == UNMEASURED
    metrics = {"latency_ms": 6.0, "size_bytes": 1e6}
    assert violated([latency, size, gain], metrics) == [latency, gain]
