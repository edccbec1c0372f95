"""Kernels for processors that this machine is not: AVX-512 and 64-bit ARM, beside the portable ones.

AVX-512 instructions are emulated by tests/native/emulated/immintrin.h, with nothing but a C++ compiler and its
sanitisers; those of ARM are run by qemu, where it and a compiler for ARM are installed (Debian:
g++-aarch64-linux-gnu, qemu-user).
"""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "cspbench" / "runtime" / "native"
COMMON = "codec codec_rows codec_blocks matrix arena pool rounding dispatch portable window window_portable"
FLAGS = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Wno-psabi", "-ffp-contract=off", "-pthread"]
FLAGS += [f"-I{NATIVE}"]
SANITISE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def _needs(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"emulating kernels needs {', '.join(missing)}")


def _build(compiler: str, folder: Path, add: str, kernels: Iterable[Path], flags: list[str]) -> Path:
    program = folder / add
    sources = [NATIVE / f"{name}.cpp" for name in COMMON.split()]
    sources += [*kernels, ROOT / "tests" / "native" / "emulation.cpp"]
    command = [compiler, *FLAGS, *flags, f"-DCSPBENCH_EMULATED={add}", *map(str, sources), "-o", str(program)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr
    assert "warning" not in made.stderr, made.stderr
    return program


def _run(*command: str | Path) -> None:
    ran = subprocess.run([str(each) for each in command], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "all as the portable ones" in ran.stdout


@pytest.mark.slow
def test_avx512(tmp_path: Path) -> None:
    _needs("g++")
    emulated = ROOT / "tests" / "native" / "emulated"
    program = _build("g++", tmp_path, "add_avx512", NATIVE.glob("*avx512.cpp"), ["-isystem", str(emulated), *SANITISE])
    _run(program, "1", "1000")


@pytest.mark.slow
def test_neon(tmp_path: Path) -> None:
    _needs("aarch64-linux-gnu-g++", "qemu-aarch64")
    program = _build("aarch64-linux-gnu-g++", tmp_path, "add_neon", NATIVE.glob("*neon.cpp"), ["-static"])
    for processor in ("cortex-a53", "max"):  # without and with the dot product
        _run("qemu-aarch64", "-cpu", processor, program, "1", "300")
