"""Which parts of the native code may include which: layers downwards only, instruction sets apart from each other."""

import re
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "cspbench" / "runtime" / "native"
LAYERS = ["base", "kernels", "matrix", "recogniser", "python"]
INSTRUCTION_SETS = ["portable", "avx2", "avx512", "neon"]
FILES = sorted(path.relative_to(NATIVE) for path in NATIVE.rglob("*.?pp"))
# Inline functions of other headers would be compiled for one instruction set and used on every processor.
PLAIN_HEADERS = {"cstddef", "cstdint", "cstring", "immintrin.h", "arm_neon.h", "sys/auxv.h"}


def includes(file: Path, pattern: str) -> list[str]:
    return re.findall(rf"^#include {pattern}", (NATIVE / file).read_text(), re.MULTILINE)


def allowed(file: Path, included: Path) -> bool:
    layer, below = file.parts[0], included.parts[0]
    if layer != "kernels" or below != "kernels":
        return LAYERS.index(below) <= LAYERS.index(layer)
    inner, other = ([*path.parts[1:-1], ""][0] for path in (file, included))
    return other in {"", inner} or (other == "shared" and inner in INSTRUCTION_SETS)


def test_every_file_is_in_a_layer() -> None:
    assert {file.parts[0] for file in FILES} == set(LAYERS)
    inner = {file.parts[1] for file in FILES if file.parts[0] == "kernels" and len(file.parts) > 2}
    assert inner == {"shared", *INSTRUCTION_SETS}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_includes_point_downwards(file: Path) -> None:
    for name in includes(file, '"([^"]+)"'):
        assert (NATIVE / name).is_file(), f"{name} is not a path from {NATIVE.name}/"
        assert allowed(file, Path(name)), f"{file} must not include {name}"


@pytest.mark.parametrize("folder", ["shared", "avx2", "avx512", "neon"])
def test_files_for_an_instruction_set_use_plain_headers(folder: str) -> None:
    for file in (NATIVE / "kernels" / folder).iterdir():
        assert set(includes(file, "<([^>]+)>")) <= PLAIN_HEADERS, file


@pytest.mark.parametrize(
    ("file", "included", "expected"),
    [
        ("matrix/matrix.cpp", "kernels/dispatch.hpp", True),
        ("kernels/dispatch.cpp", "matrix/matrix.hpp", False),
        ("kernels/avx512/dense.cpp", "kernels/shared/rows.hpp", True),
        ("kernels/avx512/dense.cpp", "kernels/avx2/common.hpp", False),
        ("kernels/shared/rows.hpp", "kernels/avx2/common.hpp", False),
    ],
)
def test_the_rule_itself(file: str, included: str, expected: bool) -> None:
    assert allowed(Path(file), Path(included)) is expected
