"""Kernels for processors that this machine is not: AVX-512 and 64-bit ARM, beside the portable ones.

AVX-512 instructions are emulated by tests/native/emulated/immintrin.h, with nothing but a C++ compiler and its
sanitisers; those of ARM are run by qemu, where it and a compiler for ARM are installed (Debian:
g++-aarch64-linux-gnu, qemu-user).
"""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "cspbench" / "runtime" / "native"
COMMON = ["base/arena", "base/pool", "matrix/*", "kernels/dispatch", "kernels/portable/*"]
FLAGS = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Wno-psabi", "-ffp-contract=off", "-pthread"]
FLAGS += [f"-I{NATIVE}"]
SANITISE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def _needs(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"emulating kernels needs {', '.join(missing)}")


def _build(compiler: str, folder: Path, instruction_set: str, flags: list[str]) -> Path:
    program = folder / instruction_set
    sources = [
        path for name in (*COMMON, f"kernels/{instruction_set}/*") for path in sorted(NATIVE.glob(f"{name}.cpp"))
    ]
    sources.append(ROOT / "tests" / "native" / "emulation.cpp")
    flags = [*FLAGS, *flags, f"-DCSPBENCH_EMULATED={instruction_set}"]
    command = [compiler, *flags, *map(str, sources), "-o", str(program)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr
    assert "warning" not in made.stderr, made.stderr
    return program


def _run(*command: str | Path) -> None:
    ran = subprocess.run([str(each) for each in command], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "all as the portable ones" in ran.stdout


def test_avx512(tmp_path: Path) -> None:
    _needs("g++")
    emulated = ROOT / "tests" / "native" / "emulated"
    program = _build("g++", tmp_path, "avx512", ["-isystem", str(emulated), *SANITISE])
    _run(program, "1", "1000")


def test_neon(tmp_path: Path) -> None:
    _needs("aarch64-linux-gnu-g++", "qemu-aarch64")
    program = _build("aarch64-linux-gnu-g++", tmp_path, "neon", ["-static"])
    for processor in ("cortex-a53", "max"):  # without and with the dot product
        _run("qemu-aarch64", "-cpu", processor, program, "1", "300")
