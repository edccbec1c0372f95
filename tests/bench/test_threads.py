"""The benchmark of threads: rows and ratios say what ran. No time is judged."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cspbench.bench import threads
from cspbench.errors import ConfigError

pytest.importorskip("cspbench.runtime._native", reason="NATIVE MODULE ABSENT: no compiler when installing")


def test_rows_say_how_many_threads_were_allowed_and_used() -> None:
    found = threads.run(**threads.QUICK, threads=(1, 1))
    assert [(row["model"], row["precision"], row["threads"], row["used"]) for row in found.rows] == [
        ("S", precision, 1, 1) for precision in ("fp32", "int8") for _ in range(2)
    ]
    assert all(row["median_us"] > 0 and row["over_bound"] > 0 for row in found.rows)
    assert set(found.ratios) == {"S:fp32@0.90:1/1", "S:int8@0.90:1/1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": ("linear",)}, "there is no model 'linear' \\(L, S\\)"),
        ({"zeros": (1.0,)}, "lies in"),
        ({"threads": (1, 9999)}, "9999 threads cannot run"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        threads.run(**arguments)


@pytest.mark.parametrize("counts", ["0", "1.5", "nan", "two"])
def test_numbers_of_threads_are_checked(counts: str, run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = run("bench", "threads", "--threads", counts)
    assert code == 2
    assert "--threads takes " in err
