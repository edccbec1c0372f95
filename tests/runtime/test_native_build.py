"""Building the native module: under sanitisers, without a compiler, from a source distribution."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
SECONDS = 15
# Compilers whose sanitisers need no further setting up, the quicker one first.
COMPILERS = ("clang++", "clang++-14", "g++")

needs_backend = pytest.mark.skipif(
    importlib.util.find_spec("scikit_build_core") is None, reason="BUILD BACKEND ABSENT: pip install scikit-build-core"
)


def call(*words, **environment):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | environment
    done = subprocess.run(words, cwd=REPO, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def sanitising_compiler(folder):
    program = folder / "empty.cpp"
    program.write_text("int main() {}\n")
    for compiler in filter(shutil.which, COMPILERS):
        words = [compiler, "-fsanitize=address,undefined", program, "-o", folder / "empty"]
        if subprocess.run(words, capture_output=True, check=False).returncode == 0:
            return compiler
    return None


@pytest.mark.timeout(900)  # the first time it compiles everything
def test_no_fault_under_sanitisers(tmp_path):
    """Every format and instruction set, and streams, also tampered with; touching other memory ends the program."""
    compiler = sanitising_compiler(tmp_path)
    if compiler is None or not shutil.which("cmake") or not shutil.which("ninja"):
        pytest.skip("NATIVE CODE NOT FUZZED: needs cmake, ninja and a compiler with AddressSanitizer")
    build = REPO / "build" / f"fuzz-{compiler}"
    call("cmake", "-S", REPO, "-B", build, "-G", "Ninja", "-DCSPBENCH_FUZZ=ON", f"-DCMAKE_CXX_COMPILER={compiler}")
    call("cmake", "--build", build)
    said = call(build / "fuzz", str(SECONDS), ASAN_OPTIONS="detect_stack_use_after_return=1")
    assert "portable" in said
    assert int(said.split()[0]) > 20


@needs_backend
def test_without_a_compiler_the_package_is_built_pure(tmp_path):
    if not shutil.which("cmake"):
        pytest.skip("cmake absent: the backend would have to fetch it")
    call(
        *(sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", tmp_path, "."),
        CC="/bin/false",
        CXX="/bin/false",
    )
    (wheel,) = tmp_path.glob("cspbench-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"cspbench/py.typed", "cspbench/runtime/extension.py", "cspbench/runtime/_native.pyi"} <= set(names)
    assert not [name for name in names if name.endswith((".so", ".cpp", ".hpp"))]


@needs_backend
def test_the_source_distribution_holds_all_that_is_compiled(tmp_path):
    call(sys.executable, "-c", f"from scikit_build_core.build import build_sdist; build_sdist({str(tmp_path)!r})")
    (sdist,) = tmp_path.glob("cspbench-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    native = {str(path.relative_to(REPO)) for path in (REPO / "cspbench/runtime/native").rglob("*.?pp")}
    assert {"CMakeLists.txt", "tests/native/fuzz.cpp", "cspbench/py.typed", *native} <= names
    assert not [name for name in names if name.endswith(".so")]
